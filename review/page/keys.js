/* All keys in one table, which is also the help. A null function: explained only. */

const KEYS = [
    ["time", [
        ["Space", [" "], "play or pause", togglePlay],
        [", and .", [","], "one frame back, one frame on", () => stepFrames(-1)],
        ["", ["."], "", () => stepFrames(1)],
        ["[ and ]", ["["], "slower, faster", () => changeRate(-1)],
        ["", ["]"], "", () => changeRate(1)],
        ["Home", ["Home"], "from the first frame", () => seekAll(0)],
    ]],
    ["moving", [
        ["arrows", ["ArrowLeft", "h"], "to another clip (also h j k l)", () => moveCurrent(-1, 0)],
        ["", ["ArrowRight", "l"], "", () => moveCurrent(1, 0)],
        ["", ["ArrowUp", "k"], "", () => moveCurrent(0, -1)],
        ["", ["ArrowDown", "j"], "", () => moveCurrent(0, 1)],
        ["f", ["f"], "show all, open, picked, rejected, marked", nextFilter],
        ["/", ["/"], "search", () => $("search").focus()],
        ["+ and -", ["+", "="], "larger, smaller", () => enlarge(1)],
        ["", ["-"], "", () => enlarge(-1)],
    ]],
    ["judging", [
        ["p", ["p"], "pick (again: take it back)", () => toggleVerdict("pick")],
        ["x", ["x"], "reject", () => toggleVerdict("reject")],
        ["1 to 9", ["1", "2", "3", "4", "5", "6", "7", "8", "9"], "rank, 1 is best",
            key => setRank(Number(key))],
        ["0", ["0"], "no rank", () => setRank(0)],
        ["n", ["n"], "write a note (Esc ends)", () => $("note").focus()],
        ["e", ["e"], "export as picks.json", exportPicks],
        ["c", ["c"], "copy the command that renders it", copyCommand],
    ]],
    ["comparing", [
        ["Enter", ["Enter"], "large, and back", () => stage.open ? closeStage() : openStage("one")],
        ["b", ["b"], "make it the reference", setReference],
        ["s", ["s"], "side by side with the reference", () => chooseMode("side")],
        ["w", ["w"], "wipe between both", () => chooseMode("wipe")],
        ["d", ["d"], "difference of both", () => chooseMode("diff")],
        ["g", ["g"], "difference brighter", changeGain],
        ["v", ["v"], "swap clip and reference", swapReference],
        ["z and Z", ["z"], "zoom in and out, to the pixels (wheel; drag moves)", () => zoomStage(1)],
        ["", ["Z"], "", () => zoomStage(-1)],
        ["Esc", ["Escape"], "back to all clips", closeStage],
    ]],
];

const keyActions = new Map();
for (const [, rows] of KEYS)
    for (const [, keys, , action] of rows)
        for (const key of keys)
            keyActions.set(key, action);

function enlarge(direction) {
    if (stage.open) {
        changeZoom(direction);
        return;
    }
    $("size").value = view.size + 32 * direction;
    $("size").dispatchEvent(new Event("input"));
}

function zoomStage(direction) {
    if (!stage.open)
        openStage("one");
    changeZoom(direction);
}

function nextFilter() {
    const names = Object.keys(FILTERS);
    chooseFilter(names[(names.indexOf(view.filter) + 1) % names.length]);
}

document.addEventListener("keydown", event => {
    const target = event.target;
    const typing = ["TEXTAREA", "SELECT"].includes(target.tagName) ||
        (target.tagName === "INPUT" && target.type !== "range");
    if (event.ctrlKey || event.metaKey || event.altKey)
        return;
    if (typing) {
        if (event.key === "Escape" || (event.key === "Enter" && target.tagName === "INPUT"))
            target.blur();
        return;
    }
    if (event.key === "?" || (event.key === "Escape" && $("help").open)) {
        toggleHelp();
        event.preventDefault();
        return;
    }
    const action = keyActions.get(event.key) || keyActions.get(event.key.toLowerCase());
    if (!action || document.querySelector("dialog[open]"))
        return;
    event.preventDefault();
    action(event.key);
});

function toggleHelp() {
    if ($("help").open)
        $("help").close();
    else
        $("help").showModal();
}

function fillHelp() {
    const columns = element("div", "keys");
    for (const [title, rows] of KEYS) {
        const list = element("dl");
        list.append(element("h3", "", title));
        for (const [name, , meaning] of rows)
            if (name)
                list.append(element("dt", "", name), element("dd", "", meaning));
        columns.append(list);
    }
    $("help").append(columns, element("p", "dim",
        "Opinions stay in this browser. picks.json is rendered again, larger, with: vidilate batch --from " +
        "picks.json --scale 2 --out DIR. Scores tell what pixels tell: they order clips of one size, and " +
        "marks name what is broken, and the worst tenth where it stands apart. Hover over a score for what it measures."));
    $("help").addEventListener("click", () => $("help").close());
    $("help-button").addEventListener("click", toggleHelp);
}

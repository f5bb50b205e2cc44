/* The bars at the top and the bottom, and the start. */

const SIZE_KEY = STORE_KEY + " size";

function choices(select, names, key) {
    for (const [value, text] of names)
        $(select).append(new Option(text, value));
    $(select).value = view[key] || "";
    $(select).addEventListener("change", () => {
        view[key] = $(select).value || null;
        $(select).blur();
        showGrid();
    });
}

function chooseFilter(filter) {
    view.filter = filter;
    showGrid();
    if (order.length > 0 && !order.includes(clips[view.current]))
        setCurrent(order[0]);
}

function keepSize() {
    try {
        localStorage.setItem(SIZE_KEY, String(view.size));
    } catch (error) {
        /* The page works without. */
    }
}

function readSize() {
    chooseSize();
    try {
        const kept = Number(localStorage.getItem(SIZE_KEY));
        if (kept > 0)
            view.size = Math.max(96, Math.min(640, kept));
    } catch (error) {
        /* That of a fresh page, then. */
    }
}

function fillBars() {
    $("folder").textContent = DATA.folder.split("/").pop() || DATA.folder;
    $("folder").title = DATA.folder;
    document.title = $("folder").textContent + " \u00b7 vidilate review";
    for (const filter of Object.keys(FILTERS)) {
        const chip = button(filter, "key f goes on", () => chooseFilter(filter));
        chip.dataset.filter = filter;
        $("filters").append(chip);
    }
    const keys = [["", "none"], ...varying.map(key => [key, key])];
    choices("by-section", keys, "section");
    choices("by-row", keys, "row");
    choices("by-column", keys, "column");
    choices("sort", [["name", "name"], ["worst", "most marks"], ["rank", "rank"],
                     ...SCORES.map(s => [s.key, "worst " + s.key])], "sort");
    $("size").value = view.size;
    $("size").addEventListener("input", () => {
        view.size = Math.max(96, Math.min(640, Number($("size").value)));
        $("grid").style.setProperty("--size", view.size + "px");
        clips.forEach(showCard);
        keepSize();
    });
    $("search").addEventListener("input", () => {
        view.search = $("search").value;
        showGrid();
    });
    $("play").addEventListener("click", togglePlay);
    $("back").addEventListener("click", () => stepFrames(-1));
    $("forward").addEventListener("click", () => stepFrames(1));
    $("rate").addEventListener("click", () => changeRate(player.rate === 4 ? -5 : 1));
    $("scrub").addEventListener("input", () => {
        player.time = (Number($("scrub").value) + 0.5) / player.fps;
        pauseAll();
    });
    /* Keys are for the clips, not for what was clicked last. */
    for (const bar of document.querySelectorAll("header, footer, aside"))
        bar.addEventListener("click", event => event.target.tagName === "BUTTON" && event.target.blur());
}

function fillLeftOut() {
    const count = DATA.left_out.length;
    if (count === 0)
        return;
    const list = element("dl");
    for (const {file, reason} of DATA.left_out)
        list.append(element("dt", "", file), element("dd", "", reason));
    $("left-out-list").append(element("h3", "", "files that are not shown"), list);
    $("left-out-list").addEventListener("click", () => $("left-out-list").close());
    $("left-out").textContent = count + " left out";
    $("left-out").hidden = false;
    $("left-out").addEventListener("click", () => $("left-out-list").showModal());
}

readStore();
chooseLayout();
readSize();
fillBars();
fillHelp();
fillLeftOut();
showGrid();
setCurrent(order[0] || clips[0]);
requestAnimationFrame(tick);

/* The panel on the right: all of the current clip. */

function showPanel() {
    const clip = clips[view.current];
    const typing = document.activeElement && document.activeElement.id === "note";
    if (typing && $("panel").dataset.index === String(clip.index))
        return; /* the note is being written: the rest has not changed */
    $("panel").dataset.index = clip.index;
    $("panel").replaceChildren(
        element("h2", "file", clip.file), factsLine(clip), opinionRow(clip), noteBox(clip),
        element("h3", "", "scores"), scoreTable(clip), element("h3", "", "settings"),
        settingsTable(clip), ...commands(clip));
}

function factsLine(clip) {
    const parts = [clip.width + "\u00d7" + clip.height, clip.frames + " frames", clip.fps + " fps",
                   clip.codec, Math.ceil(clip.bytes / 1000) + " kB"];
    const line = element("p", "facts", parts.join(" \u00b7 "));
    if (clip.copy)
        line.append(element("span", "dim", " \u2014 shown as H.264: browsers do not all play the file"));
    return line;
}

function opinionRow(clip) {
    const row = element("div", "opinion"), opinion = opinionOf(clip);
    const verdict = (text, value, key) => {
        const b = button(text, "key " + key, () => toggleVerdict(value));
        b.className = value;
        b.setAttribute("aria-pressed", String(opinion.verdict === value));
        return b;
    };
    const rank = element("input");
    rank.type = "number";
    rank.min = 1;
    rank.id = "rank";
    rank.placeholder = "-";
    rank.value = opinion.rank === null ? "" : opinion.rank;
    rank.addEventListener("change", () => setRank(parseInt(rank.value, 10)));
    const label = element("label", "", "rank ");
    label.title = "keys 1 to 9, 0 for none";
    label.append(rank);
    row.append(verdict("pick", "pick", "p"), verdict("reject", "reject", "x"), label);
    return row;
}

function noteBox(clip) {
    const note = element("textarea");
    note.id = "note";
    note.rows = 2;
    note.placeholder = "note ( n )";
    note.value = opinionOf(clip).note;
    note.addEventListener("input", () => setOpinion(clip, {note: note.value}));
    return note;
}

/* A line for each score, with a tick for every clip and a bright one for this. */
function scoreTable(clip) {
    const table = element("div", "scores");
    for (const score of SCORES) {
        const axis = element("span", "axis"), name = element("span", "", score.key);
        name.title = score.title;
        for (const other of [...clips, clip]) {
            if (other.scores[score.key] === null)
                continue;
            const tick = element("i");
            tick.style.left = 100 * scorePlace(score, other) + "%";
            axis.append(tick);
        }
        if (clip.scores[score.key] !== null)
            axis.lastChild.className = "own";
        table.append(name, element("span", "number", scoreText(score, clip)), axis);
    }
    table.append(element("span", "", "frames"), element("span", "wide", blankText(clip)));
    for (const mark of clip.marks)
        table.append(element("span", "wide mark", MARKS[mark]));
    return table;
}

/* With a reference, what differs from it is bright and its value stands below. */
function settingsTable(clip) {
    const table = element("dl", "settings");
    const other = view.reference !== null && view.reference !== clip.index
        ? clips[view.reference].settings || {} : null;
    const own = clip.settings || {};
    if (!clip.settings)
        table.append(element("dd", "wide", "none recorded: the file was not rendered by vidilate"));
    for (const key of new Set([...Object.keys(own), ...Object.keys(other || {})])) {
        const text = own[key] === undefined ? "-" : valueText(own[key]);
        const value = element("dd", "", text.startsWith("sha256:") ? text.slice(0, 19) + "\u2026" : text);
        if (other) {
            const theirs = other[key] === undefined ? "-" : valueText(other[key]);
            if (theirs !== text) {
                value.className = "differs";
                value.append(element("span", "theirs", "reference: " + theirs));
            }
        }
        table.append(element("dt", "", key), value);
    }
    return table;
}

function commands(clip) {
    const command = renderCommand(clip);
    if (!command)
        return [];
    const pre = element("pre", "command", command), row = element("div", "buttons");
    row.append(button("copy command", "key c", copyCommand),
               button("copy replay", "render --from this file", () =>
                   copyText(replayCommand(clip), "replay")));
    return [element("h3", "", "command"), pre, row];
}

/* ---- what keys and buttons do to the current clip ------------------------------------------- */

function toggleVerdict(verdict) {
    const clip = clips[view.current];
    setOpinion(clip, {verdict: opinionOf(clip).verdict === verdict ? null : verdict});
}

/* 0, or no number: no rank. */
function setRank(rank) {
    setOpinion(clips[view.current], {rank: rank > 0 ? rank : null});
}

function copyCommand() {
    const command = renderCommand(clips[view.current]);
    if (command)
        copyText(command, "command");
    else
        toast("this file holds no settings");
}

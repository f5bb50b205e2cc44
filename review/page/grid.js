/* The clips in sections, rows and columns by what differs between them, or in lines one after
 * another. A card's video plays only while it is near the window. */

const view = {filter: "all", search: "", section: null, row: null, column: null, sort: "name",
              size: 160, current: 0, reference: null};
const cards = clips.map(makeCard);
let order = []; /* clips as they stand on the page, filtered */

const FILTERS = {
    all: () => true,
    open: clip => opinionOf(clip).verdict === null,
    picked: clip => opinionOf(clip).verdict === "pick",
    rejected: clip => opinionOf(clip).verdict === "reject",
    marked: clip => clip.marks.length > 0,
};

/* ---- what differs -------------------------------------------------------------------------- */

/* Settings that tell nothing of how a clip looks. */
const DULL = ["width", "height", "version", "model-hash", "codec", "pix-fmt", "crf", "from-latents",
              "model-size", "method"];

function propertyOf(clip, key) {
    const s = clip.settings || {};
    if (key === "size")
        return clip.width + "\u00d7" + clip.height;
    if (key === "method")
        return s.settings !== undefined ? methodNames.get(JSON.stringify(s.settings))
            : s.method !== undefined ? valueText(s.method) : "direct";
    if (key === "prompt" && s.prompt === undefined)
        return "(no prompt recorded)";
    return s[key] === undefined ? "-" : valueText(s[key]);
}

/* Methods are known by their settings: with one set it is "settings", else "settings A", ... */
const methodNames = new Map();
for (const clip of clips)
    if (clip.settings && clip.settings.settings !== undefined)
        methodNames.set(JSON.stringify(clip.settings.settings), "settings");
if (methodNames.size > 1)
    [...methodNames.keys()].forEach((text, i) => methodNames.set(
        text, "settings " + (i < 26 ? String.fromCharCode(65 + i) : i + 1)));

/* Files without settings differ in everything, which says nothing. */
function valuesOf(key) {
    return new Set(clips.filter(clip => clip.settings).map(clip => propertyOf(clip, key)));
}

const properties = ["prompt", "method", "seed", "size"];
for (const clip of clips)
    for (const key of Object.keys(clip.settings || {}))
        if (!properties.includes(key) && !DULL.includes(key) && key !== "settings")
            properties.push(key);
const varying = properties.filter(key => valuesOf(key).size > 1);

/* Columns fill the width, within reason. */
function chooseSize() {
    const columns = view.column ? Math.max(1, valuesOf(view.column).size) : clips.length > 60 ? 10 : 6;
    const width = $("grid").clientWidth - (view.row ? 130 : 40);
    view.size = Math.max(112, Math.min(256, 8 * Math.floor((width / columns - 8) / 8)));
}

/* Prompts make sections where they repeat; of the rest, seeds make columns, the next one rows. */
function chooseLayout() {
    view.section = varying.includes("prompt") && valuesOf("prompt").size * 2 <= clips.length
        ? "prompt" : null;
    const free = varying.filter(key => key !== "prompt");
    view.column = free.includes("seed") ? "seed" : free[0] || null;
    view.row = free.find(key => key !== view.column) || null;
    if (!view.row || (!view.section && varying.includes("prompt")))
        view.row = view.column = null;
}

/* ---- cards --------------------------------------------------------------------------------- */

function makeCard(clip) {
    const card = element("figure", "card");
    const box = element("div", "box");
    const video = element("video");
    const caption = element("figcaption");
    box.style.aspectRatio = clip.width + " / " + clip.height;
    box.append(video, element("span", "rank"), element("span", "badges"));
    card.append(box, caption);
    card.dataset.index = clip.index;
    video.width = clip.width;
    card.addEventListener("click", () => setCurrent(clip));
    card.addEventListener("dblclick", () => openStage());
    return {card, box, video, caption, rank: box.children[1], badges: box.children[2]};
}

const nearWindow = new IntersectionObserver(entries => {
    for (const entry of entries) {
        const clip = clips[entry.target.dataset.index];
        if (entry.isIntersecting)
            wantVideo(cards[clip.index].video, clip);
        else
            dropVideo(cards[clip.index].video);
    }
}, {root: $("grid"), rootMargin: "120px"});

function showCard(clip) {
    const {card, video, caption, rank, badges} = cards[clip.index];
    const opinion = opinionOf(clip);
    card.classList.toggle("pick", opinion.verdict === "pick");
    card.classList.toggle("reject", opinion.verdict === "reject");
    card.classList.toggle("current", clip.index === view.current);
    card.classList.toggle("reference", clip.index === view.reference);
    video.classList.toggle("pixels", view.size >= 2 * clip.width);
    rank.textContent = opinion.rank === null ? "" : opinion.rank;
    badges.replaceChildren(...clip.marks.map(mark => {
        const badge = element("span", "mark", mark);
        badge.title = MARKS[mark];
        return badge;
    }));
    if (opinion.note)
        badges.append(element("span", "note", "\u270e"));
    caption.textContent = captionOf(clip);
    card.title = clip.file + "\n" + propertyOf(clip, "prompt");
}

/* What the headings do not say already. */
function captionOf(clip) {
    const said = [view.section, view.row, view.column];
    const parts = varying.filter(key => !said.includes(key) && key !== "prompt")
        .map(key => (key === "method" || key === "size" ? "" : key + " ") + propertyOf(clip, key));
    if (varying.includes("prompt") && !said.includes("prompt"))
        parts.unshift(propertyOf(clip, "prompt"));
    return clip.settings && parts.join(" \u00b7 ") || clip.file;
}

/* ---- layout -------------------------------------------------------------------------------- */

function compareTexts(a, b) {
    return a.localeCompare(b, undefined, {numeric: true});
}

function sorted(list) {
    const score = SCORES.find(s => s.key === view.sort);
    const sign = score && score.high ? -1 : 1;
    const by = {
        worst: (a, b) => b.marks.length - a.marks.length,
        rank: (a, b) => (opinionOf(a).rank || Infinity) - (opinionOf(b).rank || Infinity) || 0,
    }[view.sort] || (score && ((a, b) => sign * ((a.scores[score.key] ?? -sign * 1e9) -
                                                 (b.scores[score.key] ?? -sign * 1e9))));
    return by ? [...list].sort((a, b) => by(a, b) || a.index - b.index) : list;
}

function grouped(list, key) {
    const groups = new Map();
    for (const clip of list) {
        const name = key ? propertyOf(clip, key) : "";
        if (!groups.has(name))
            groups.set(name, []);
        groups.get(name).push(clip);
    }
    /* Prompts stay as the files have them. */
    return key === "prompt" ? [...groups] : [...groups].sort((a, b) => compareTexts(a[0], b[0]));
}

function lines(list) {
    const flow = element("div", "flow");
    flow.append(...list.map(clip => cards[clip.index].card));
    order.push(...list);
    return flow;
}

function table(list) {
    const columns = grouped(list, view.column).map(([name]) => name);
    const grid = element("div", "table");
    grid.style.gridTemplateColumns = (view.row ? "minmax(60px, max-content) " : "") +
        `repeat(${columns.length}, max-content)`;
    if (view.column) {
        if (view.row)
            grid.append(element("span"));
        for (const name of columns)
            grid.append(element("span", "column", view.column + " " + name));
    }
    for (const [name, row] of grouped(list, view.row)) {
        if (view.row)
            grid.append(element("span", "row", name));
        for (const column of columns)
            grid.append(lines(row.filter(c => !view.column || propertyOf(c, view.column) === column)));
    }
    return grid;
}

function showGrid() {
    const words = view.search.toLowerCase().split(/\s+/).filter(word => word);
    const found = clips.filter(clip => {
        const text = (clip.file + " " + valueText(clip.settings || "")).toLowerCase();
        return FILTERS[view.filter](clip) && words.every(word => text.includes(word));
    });
    const flat = view.sort !== "name";
    order = [];
    const sections = grouped(sorted(found), flat ? null : view.section).map(([name, list]) => {
        const section = element("section");
        if (view.section && !flat)
            section.append(element("h2", "", name));
        section.append(flat || (!view.row && !view.column) ? lines(list) : table(list));
        return section;
    });
    $("grid").replaceChildren(...(found.length ? sections : [element("p", "empty", "no clip here")]));
    $("grid").style.setProperty("--size", view.size + "px");
    nearWindow.disconnect();
    const foundOnes = new Set(found);
    for (const clip of clips) {
        if (foundOnes.has(clip))
            nearWindow.observe(cards[clip.index].card);
        else
            dropVideo(cards[clip.index].video);
        showCard(clip);
    }
    showCounts();
}

/* ---- the current clip ---------------------------------------------------------------------- */

function setCurrent(clip) {
    const before = clips[view.current];
    view.current = clip.index;
    showCard(before);
    showCard(clip);
    cards[clip.index].card.scrollIntoView({block: "nearest", inline: "nearest"});
    showPanel();
    showStage();
}

/* One to the left or right in the order of reading; up and down to the nearest in sight. */
function moveCurrent(dx, dy) {
    if (order.length === 0)
        return;
    const at = order.indexOf(clips[view.current]);
    if (at < 0 || dy === 0 || stage.open) {
        const step = dx || dy;
        setCurrent(order[Math.max(0, Math.min(order.length - 1, at < 0 ? 0 : at + step))]);
        return;
    }
    const center = clip => {
        const r = cards[clip.index].card.getBoundingClientRect();
        return {x: r.left + r.width / 2, y: r.top + r.height / 2, half: r.height / 2};
    };
    const from = center(clips[view.current]);
    let best = null, bestDistance = Infinity;
    for (const clip of order) {
        const to = center(clip), down = (to.y - from.y) * dy;
        const distance = down + 0.5 * Math.abs(to.x - from.x);
        if (down > from.half / 2 && distance < bestDistance) {
            best = clip;
            bestDistance = distance;
        }
    }
    if (best)
        setCurrent(best);
}

function setReference() {
    const before = view.reference;
    view.reference = before === view.current ? null : view.current;
    if (before !== null)
        showCard(clips[before]);
    showCard(clips[view.current]);
    showPanel();
    showStage();
}

/* After an opinion has changed, here or in another tab. A clip that no longer fits the filter stays
 * until the filter is chosen again: it must not vanish under one's hand. */
function showOpinions() {
    clips.forEach(showCard);
    showCounts();
    showPanel();
}

function showCounts() {
    const count = filter => clips.filter(FILTERS[filter]).length;
    $("counts").textContent = clips.length + (clips.length === 1 ? " clip" : " clips");
    for (const chip of $("filters").children) {
        const filter = chip.dataset.filter;
        chip.textContent = filter === "all" ? "all" : filter + " " + count(filter);
        chip.setAttribute("aria-pressed", String(view.filter === filter));
    }
    const reference = view.reference === null ? "" : "reference: " + clips[view.reference].file;
    $("reference").textContent = reference;
}

/* One clip large, beside its reference, under a wipe, or as their difference; down to the pixels. */

const stage = {open: false, mode: "one", zoom: 0, x: 0.5, y: 0.5, wipe: 0.5, gain: 4,
               videos: [element("video", "a"), element("video", "b")]};
const ZOOMS = [0, 1, 2, 4, 8, 16, 32]; /* screen pixels for one of the clip; 0: what fits */
const GAINS = [1, 4, 16];
const MODES = {one: "one", side: "side by side", wipe: "wipe", diff: "difference"};

function openStage(mode) {
    stage.open = true;
    stage.mode = mode || stage.mode;
    $("stage").hidden = false;
    showStage();
}

function closeStage() {
    stage.open = false;
    $("stage").hidden = true;
    stage.videos.forEach(dropVideo);
    $("hint").textContent = "";
}

function chooseMode(mode) {
    if (mode !== "one" && (view.reference === null || view.reference === view.current)) {
        toast("choose a reference first: move to a clip, press b, and come back");
        return;
    }
    openStage(stage.open && stage.mode === mode ? "one" : mode);
}

function showStage() {
    if (!stage.open)
        return;
    const [a, b] = stage.videos, clip = clips[view.current];
    const other = view.reference !== null && view.reference !== view.current
        ? clips[view.reference] : null;
    if (!other)
        stage.mode = "one";
    const both = stage.mode !== "one";
    wantVideo(a, clip);
    if (both)
        wantVideo(b, other);
    else
        dropVideo(b);
    const pane = (className, videos, text) => {
        const p = element("div", "pane " + className);
        p.append(...videos, element("span", "name", text));
        return p;
    };
    const panes = stage.mode === "side"
        ? [pane("", [a], clip.file), pane("", [b], "reference: " + other.file)]
        : [pane(stage.mode, both ? [b, a] : [a],
                both ? clip.file + " and " + other.file : clip.file)];
    $("stage").replaceChildren(...panes);
    placeStage();
}

/* Both clips fill one rectangle, the size of the current one. */
function placeStage() {
    const clip = clips[view.current];
    for (const video of stage.videos) {
        const pane = video.parentElement;
        if (!pane || !pane.isConnected)
            continue;
        const fit = Math.min(pane.clientWidth / clip.width, (pane.clientHeight - 24) / clip.height);
        const scale = stage.zoom || fit, width = clip.width * scale, height = clip.height * scale;
        const x = stage.zoom ? stage.x : 0.5, y = stage.zoom ? stage.y : 0.5;
        Object.assign(video.style, {
            width: width + "px", height: height + "px",
            left: pane.clientWidth / 2 - x * width + "px",
            top: (pane.clientHeight + 24) / 2 - y * height + "px",
            clipPath: stage.mode === "wipe" && video.className.startsWith("a")
                ? `inset(0 ${100 * (1 - stage.wipe)}% 0 0)` : "",
        });
        video.classList.toggle("pixels", scale >= 2);
        pane.style.filter = stage.mode === "diff" ? `brightness(${stage.gain})` : "";
    }
    $("hint").textContent = MODES[stage.mode] + (stage.mode === "diff" ? " \u00d7" + stage.gain : "") +
        " \u00b7 " + (stage.zoom ? stage.zoom + " screen pixels a pixel" : "fitted");
}

function changeZoom(direction) {
    const at = ZOOMS.indexOf(stage.zoom) + direction;
    stage.zoom = ZOOMS[Math.max(0, Math.min(ZOOMS.length - 1, at))];
    if (!stage.zoom)
        stage.x = stage.y = 0.5;
    placeStage();
}

function changeGain() {
    stage.gain = GAINS[(GAINS.indexOf(stage.gain) + 1) % GAINS.length];
    placeStage();
}

/* The reference comes under the hand and the clip becomes the reference. */
function swapReference() {
    if (view.reference === null)
        return;
    const clip = clips[view.reference];
    view.reference = view.current;
    setCurrent(clip);
    showCard(clips[view.reference]);
    showCounts();
}

$("stage").addEventListener("wheel", event => {
    event.preventDefault();
    changeZoom(event.deltaY < 0 ? 1 : -1);
}, {passive: false});

$("stage").addEventListener("pointermove", event => {
    const pane = event.target.closest(".pane");
    if (!pane)
        return;
    if (event.buttons & 1 && stage.zoom) {
        const clip = clips[view.current];
        stage.x -= event.movementX / (clip.width * stage.zoom);
        stage.y -= event.movementY / (clip.height * stage.zoom);
        placeStage();
    } else if (stage.mode === "wipe") {
        const r = stage.videos[0].getBoundingClientRect();
        stage.wipe = Math.max(0, Math.min(1, (event.clientX - r.left) / r.width));
        placeStage();
    }
});

$("stage").addEventListener("dblclick", closeStage);
addEventListener("resize", placeStage);

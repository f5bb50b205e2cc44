/* Elements, texts, and a clip's settings as a command. Texts of clips go in as text, never as HTML. */

function $(id) {
    return document.getElementById(id);
}

function element(tag, className, text) {
    const e = document.createElement(tag);
    if (className)
        e.className = className;
    if (text !== undefined)
        e.textContent = text;
    return e;
}

function button(text, title, onclick) {
    const b = element("button", "", text);
    b.title = title;
    b.addEventListener("click", onclick);
    return b;
}

function valueText(value) {
    return value !== null && typeof value === "object" ? JSON.stringify(value) : String(value);
}

/* Single quotes hold everything but themselves. */
function shellQuoted(text) {
    return /^[A-Za-z0-9_.\/:,+=@%-]+$/.test(text) && text[0] !== "-" && text[0] !== "@"
        ? text : "'" + text.replaceAll("'", "'\\''") + "'";
}

/* The options that a clip records. Others, which only a forged file has, would name files. */
const RECORDED = ["prompt", "negative-prompt", "width", "height", "frames", "fps", "steps", "guidance",
                  "guidance-rescale", "eta", "seed", "scheduler", "codec", "pix-fmt", "crf", "dtype"];

function stem(file) {
    return file.replace(/\.[^.]*$/, "");
}

/* Renders the clip anew, all options given; null if its settings are not known. */
function renderCommand(clip) {
    if (!clip.settings)
        return null;
    /* render would read a file for such a prompt. */
    if (["prompt", "negative-prompt"].some(key => String(clip.settings[key]).startsWith("@")))
        return replayCommand(clip);
    const words = ["vidilate", "render"];
    const entries = Object.entries(clip.settings).filter(([key]) => RECORDED.includes(key));
    const model = clip.settings.model;
    let before = "";
    if (typeof model === "string" && model !== "shapes")
        entries.unshift(["model", model]);
    for (const [key, value] of entries)
        words.push("--" + key, shellQuoted(valueText(value)));
    if (clip.settings.settings !== undefined) {
        const file = stem(clip.file) + "-settings.json";
        before = "printf '%s\\n' " + shellQuoted(JSON.stringify(clip.settings.settings)) + " > " +
            shellQuoted(file) + " && ";
        words.push("--settings", shellQuoted(file));
    }
    words.push("-o", shellQuoted(stem(clip.file) + "-again.mp4"));
    return before + words.join(" ");
}

function replayCommand(clip) {
    const file = DATA.folder + "/" + clip.file;
    return "vidilate render --from " + shellQuoted(file) + " -o " +
        shellQuoted(stem(clip.file) + "-again.mp4");
}

async function copyText(text, what) {
    try {
        await navigator.clipboard.writeText(text);
    } catch (error) {
        /* Pages from disk may not use it in every browser. */
        const area = element("textarea", "", text);
        document.body.append(area);
        area.select();
        document.execCommand("copy");
        area.remove();
    }
    toast(what + " copied");
}

let toastTimer = 0;
function toast(text) {
    $("toast").textContent = text;
    $("toast").classList.add("on");
    clearTimeout(toastTimer);
    toastTimer = setTimeout(() => $("toast").classList.remove("on"), 2500);
}

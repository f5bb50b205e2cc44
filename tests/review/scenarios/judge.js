/* Plays, steps, keys, and opinions; hands the export on. */
const FILE = "\"><b>'\u00e9 & #?%41.mp4", FPS = 8;

/* Red of pixel (10, 10) of a clip of moving gradients is 20 + 8t. */
function redOf(video) {
    const canvas = document.createElement("canvas");
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    const context = canvas.getContext("2d");
    context.drawImage(video, 0, 0);
    return context.getImageData(10, 10, 1, 1).data[0];
}

async function scenario() {
    const videos = all(".card video");
    check(videos.length === 13, videos.length + " clips");
    await until(() => videos.every(v => v.readyState >= 2), "all videos load");
    check(videos.every(v => v.videoWidth === 64 && v.videoHeight === 48), "sizes");
    check(page.document.title === "clips \u00b7 vidilate review", "title " + page.document.title);
    check(all("script").length === 2 + 13, "scripts");

    /* Playing: time passes, and mostly all show the same moment to within a frame. */
    const seen = new Set();
    let together = 0;
    for (let i = 0; i < 40; i++) {
        const times = videos.map(v => v.currentTime);
        seen.add(Math.floor(times[0] * FPS));
        together += Math.max(...times) - Math.min(...times) < 1 / FPS;
        await sleep(50);
    }
    check(seen.size >= 4, "frames seen playing: " + seen.size);
    check(together >= 20, "in step in " + together + " of 40 looks");

    /* Paused and stepped: all in the middle of one frame, and it is that frame. */
    press(" ", "Home");
    const mover = card("ring-direct-1").querySelector("video");
    for (let frame = 0; frame < 8; frame++) {
        await until(() => videos.every(v => v.paused && !v.seeking), "seeking ends");
        await sleep(100);
        check(videos.every(v => Math.abs(v.currentTime - (frame + 0.5) / FPS) < 1e-3), "step");
        check(text("#frame") === frame + 1 + " / 8", "counter " + text("#frame"));
        const red = redOf(mover), wanted = 20 + 8 * frame;
        check(Math.abs(red - wanted) <= 5, `frame ${frame}: red ${red}, not ${wanted}`);
        press(".");
    }
    check(text("#frame") === "1 / 8" || await sleep(100) || text("#frame") === "1 / 8", "wraps");
    press(",");
    await sleep(100);
    check(text("#frame") === "8 / 8", "steps back");

    /* Opinions by keys. The first clip is the current one. */
    check(card(FILE).classList.contains("current"), "the first is current");
    press("p", "1");
    press("ArrowRight", "x");
    press("n");
    const note = page.document.getElementById("note");
    check(page.document.activeElement === note, "n goes to the note");
    note.value = "too dark </script> \u65e5\u672c";
    note.dispatchEvent(new page.Event("input", {bubbles: true}));
    press("p", "Escape");
    check(card("black").classList.contains("reject"), "keys are text while a note is written");
    check(card(FILE).classList.contains("pick") && card(FILE).querySelector(".rank").textContent === "1",
          "pick and rank");
    check(text("#filters").includes("picked 1") && text("#filters").includes("rejected 1"), "counts");

    /* The scores' marks. */
    const marks = file => [...card(file).querySelectorAll(".mark")].map(m => m.textContent);
    check(marks("black").includes("black") && marks("still").includes("frozen") &&
          marks("noise").includes("flicker") && marks("ring-direct-1").length === 0, "marks");

    /* The stage: large, reference, difference of a clip with its equal is black. */
    card("ring-direct-2").click();
    press("b");
    card("ring-direct-1").click();
    press("d");
    check(all("#stage .pane.diff video").length === 2, "difference of two");
    await until(() => all("#stage video").every(v => v.readyState >= 2 && !v.seeking), "stage loads");
    check(page.getComputedStyle(all("#stage video.a")[0]).mixBlendMode === "difference", "blend");
    press("s");
    check(all("#stage .pane").length === 2, "side by side");
    press("z", "z", "z");
    const width = all("#stage video.a")[0].getBoundingClientRect().width;
    check(width === 64 * 4, "zoomed to " + width);
    press("Escape");
    check(page.document.getElementById("stage").hidden, "back");

    /* Filter, search, help, what is left out. */
    press("f", "f");
    check(all(".card").length === 1, "only the picked one");
    press("f", "f", "f");
    check(all(".card").length === 13, "all again");
    const search = page.document.getElementById("search");
    search.value = "ring redilate";
    search.dispatchEvent(new page.Event("input"));
    check(all(".card").length === 3, "found " + all(".card").length);
    search.value = "";
    search.dispatchEvent(new page.Event("input"));
    press("?");
    check(page.document.getElementById("help").open && text("#help").includes("play or pause"), "help");
    press("Escape");
    const left = text("#left-out-list");
    for (const file of ["broken.mp4", "notes.txt", "short.mkv"])
        check(left.includes(file), file + " is not among those left out");
    card("frames-0001").click();
    check(text("#panel").includes("shown as H.264"), "PNG frames play as a copy");

    /* The command holds the prompt, and no text became an element. */
    card(FILE).click();
    check(text(".command").includes("--prompt '</script><script>"), text(".command"));
    check(all("b").length === 0, "a file name became markup");
    done(await exported());
}

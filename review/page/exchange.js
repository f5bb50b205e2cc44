/* Opinions as a file: for vidilate batch --from, and for another person's page. */

/* Picks without settings cannot be rendered again. Clips with only a note or a rank go along
 * without a verdict. */
function exportedPicks() {
    const picks = [];
    for (const clip of clips) {
        const opinion = opinionOf(clip);
        if (opinion === NOTHING || !clip.settings)
            continue;
        const pick = {file: clip.file, settings: clip.settings, verdict: opinion.verdict};
        if (opinion.rank !== null)
            pick.rank = opinion.rank;
        if (opinion.note)
            pick.note = opinion.note;
        picks.push(pick);
    }
    picks.sort((a, b) => (a.rank || Infinity) - (b.rank || Infinity) || 0);
    return {version: 1, picks};
}

function exportPicks() {
    const result = exportedPicks();
    const count = verdict => result.picks.filter(p => p.verdict === verdict).length;
    const lost = clips.filter(c => !c.settings && opinionOf(c) !== NOTHING).length;
    if (result.picks.length === 0) {
        toast(lost ? "only files without settings are marked: nothing to render again"
            : "nothing is picked yet: p picks, x rejects");
        return;
    }
    const link = element("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(result, null, 1) + "\n"],
                                             {type: "application/json"}));
    link.download = "picks.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    toast(`picks.json: ${count("pick")} picked, ${count("reject")} rejected` +
        (lost ? `; ${lost} without settings left out` : ""));
}

/* Opinions about clips of this page, by file name; the others are counted. */
function importPicks(text) {
    let picks;
    try {
        picks = JSON.parse(text).picks;
        if (!Array.isArray(picks))
            throw new Error("no picks");
    } catch (error) {
        toast("this is no file of picks");
        return;
    }
    const byFile = new Map(clips.map(clip => [clip.file, clip]));
    let taken = 0;
    for (const pick of picks) {
        const clip = pick && byFile.get(pick.file);
        if (!clip)
            continue;
        opinions.set(clipKey(clip), {
            verdict: ["pick", "reject"].includes(pick.verdict) ? pick.verdict : null,
            rank: Number.isInteger(pick.rank) && pick.rank > 0 ? pick.rank : null,
            note: typeof pick.note === "string" ? pick.note : "",
        });
        taken++;
    }
    writeStore();
    showGrid();
    showPanel();
    toast(`${taken} of ${picks.length} picks belong to clips of this page`);
}

$("export").addEventListener("click", exportPicks);
$("import").addEventListener("click", () => $("import-file").click());
$("import-file").addEventListener("change", async event => {
    const file = event.target.files[0];
    if (file)
        importPicks(await file.text());
    event.target.value = "";
});

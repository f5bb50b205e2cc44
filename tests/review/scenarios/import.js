/* Another person's browser takes the export over. PICKS stands for its text. */
async function scenario() {
    check(all(".card.pick").length === 0, "a fresh profile knows opinions");
    page.importPicks(PICKS);
    check(all(".card.pick").length === 1 && all(".card.reject").length === 1, "import");
    const result = JSON.parse(await exported()), given = JSON.parse(PICKS);
    check(JSON.stringify(result) === JSON.stringify(given), "export after import differs");
    check(given.version === 1 && given.picks.length === 2, "schema");
    const [first, second] = given.picks;
    check(first.verdict === "pick" && first.rank === 1 && !("note" in first), "the pick");
    check(second.verdict === "reject" && second.file === "black.mp4" && !("rank" in second), "the reject");
    check(first.settings.seed === "1" && first.settings.settings.dilate.mid_block === 2, "settings");
    page.importPicks("{");
    page.importPicks('{"picks": [null, 3, {"file": "nowhere.mp4"}]}');
    check(all(".card.pick").length === 1, "nonsense changes nothing");
    done();
}

/* Only clips in sight have a decoder; scrolling gives it to others. */
async function scenario() {
    const videos = all(".card video"), grid = page.document.getElementById("grid");
    const active = () => videos.filter(v => v.hasAttribute("src"));
    check(videos.length === 200, videos.length + " clips");
    await until(() => active().length > 0 && active().every(v => v.readyState >= 2), "the first load");
    check(active().length <= 64, active().length + " decoders");
    check(videos[0].hasAttribute("src") && !videos[199].hasAttribute("src"), "the first play");
    grid.scrollTop = grid.scrollHeight;
    await until(() => videos[199].readyState >= 2, "the last loads");
    check(!videos[0].hasAttribute("src") && active().length <= 64, "the first has given way");
    press("f", "f");
    await until(() => active().length === 0, "hidden clips have no decoder");
    done();
}

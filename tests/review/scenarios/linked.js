/* Clips beside the page, under any name. */
async function scenario() {
    const videos = all(".card video");
    check(videos.length === 13, videos.length + " clips");
    await until(() => videos.every(v => v.readyState >= 2), "all videos load");
    check(videos.filter(v => v.src.startsWith("file:")).length === 11, "linked clips");
    done();
}

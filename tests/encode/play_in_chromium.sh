#!/bin/sh
# Plays a clip in headless Chromium: play_in_chromium.sh CLIP WIDTH HEIGHT
# Exit 0 only if a <video> element gives that size and a length, plays to its end without an error,
# and a frame drawn on a canvas is not blank. Says on stderr what went wrong. 77: no Chromium here.
set -eu

if [ $# -ne 3 ]; then
    echo "usage: $0 CLIP WIDTH HEIGHT" >&2
    exit 2
fi
clip=$1 width=$2 height=$3
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome) || {
    echo "$0: no Chromium on this machine; install chromium" >&2
    exit 77
}
work=$(mktemp -d)
# The browser's helpers write into its profile for a moment after it has gone: that is no failure of the clip.
clean_up() {
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        rm -rf "$work" 2> /dev/null && return
        sleep 0.5
    done
    echo "$0: $work cannot be removed" >&2
}
trap clean_up EXIT
trap 'exit 130' INT TERM
cp "$clip" "$work/clip.${clip##*.}"

cat > "$work/page.html" <<PAGE
<!doctype html><meta charset="utf-8"><body><video id="v" muted playsinline></video><script>
const wanted = [$width, $height], v = document.getElementById("v"), seen = {};
let done = false;
function report(text) {
    if (done) return;
    done = true;
    console.log("RESULT " + text + " " + JSON.stringify(seen) + " END");
}
/* Blank: one colour in every pixel, or transparent. */
function look() {
    const c = document.createElement("canvas");
    c.width = v.videoWidth;
    c.height = v.videoHeight;
    const g = c.getContext("2d", {willReadFrequently: true});
    g.drawImage(v, 0, 0);
    let d;
    try { d = g.getImageData(0, 0, c.width, c.height).data; }
    catch (e) { return report("FAIL pixels cannot be read: " + e.message); }
    const first = String(d.slice(0, 3)), colours = new Set();
    let opaque = true;
    for (let i = 0; i < d.length; i += 4) {
        colours.add(d[i] << 16 | d[i + 1] << 8 | d[i + 2]);
        opaque = opaque && d[i + 3] === 255;
    }
    seen.frames = (seen.frames || 0) + 1;
    seen.colours = Math.max(seen.colours || 0, opaque ? colours.size : 0);
    seen.corner = first;
}
function onframe() { look(); v.requestVideoFrameCallback(onframe); }
v.requestVideoFrameCallback(onframe);
v.onerror = () => report("FAIL error " + v.error.code + ": " + v.error.message);
v.onended = () => {
    look();
    seen.width = v.videoWidth; seen.height = v.videoHeight; seen.duration = v.duration;
    if (v.videoWidth !== wanted[0] || v.videoHeight !== wanted[1]) report("FAIL size");
    else if (!(v.duration > 0 && isFinite(v.duration))) report("FAIL duration");
    else if (!(seen.colours > 1)) report("FAIL blank");
    else report("PASS");
};
v.oncanplaythrough = () => v.play().catch(e => report("FAIL play: " + e.message));
v.src = "clip.${clip##*.}";
v.load();
</script></body>
PAGE

# The page tells its result to the browser's log. (--dump-dom does not wait for media: its clock runs
# ahead of the one that plays.)
"$browser" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --mute-audio \
    --no-first-run --user-data-dir="$work/profile" --allow-file-access-from-files \
    --autoplay-policy=no-user-gesture-required --enable-logging=stderr --remote-debugging-port=0 \
    "file://$work/page.html" > /dev/null 2> "$work/log" &
pid=$!
result= waited=0
while [ -z "$result" ] && [ $waited -lt 600 ] && kill -0 $pid 2> /dev/null; do
    sleep 0.1
    waited=$((waited + 1))
    result=$(sed -n 's/.*"RESULT \(.*\) END".*/\1/p' "$work/log")
done
kill $pid 2> /dev/null || true
wait $pid 2> /dev/null || true
case $result in
PASS*) echo "$clip: $result" ;;
*)
    echo "$0: $clip: ${result:-the clip did not play to its end: $(tail -n 1 "$work/log")}" >&2
    exit 1
    ;;
esac

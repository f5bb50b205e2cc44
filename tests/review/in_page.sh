#!/usr/bin/env bash
# Opens a review page in headless Chromium and does with it what a script says.
# in_page.sh PAGE SCRIPT PROFILE [EXPORT]: SCRIPT is JavaScript that gets `page`, the page's window, and
# helpers (below); it throws where something is wrong. PROFILE is the browser's folder, in which the
# page's storage lives. What the script hands to done() goes to the file EXPORT.
set -eu
page=$(realpath "$1") script=$(realpath "$2") profile=$3 export=${4:-/dev/null}
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
address=$(sed 's/%/%25/g; s/#/%23/g; s/?/%3F/g; s/"/%22/g' <<<"$page")

# The page runs in a frame, unchanged: with its policy, which would not let a test's script in.
cat >"$work/harness.html" <<PAGE
<!doctype html><meta charset="utf-8">
<iframe id="frame" style="width: 1400px; height: 800px; border: 0" src="file://$address"></iframe>
<script>
const frame = document.getElementById("frame");
let page;
function report(text) { console.log("RESULT " + text + " END"); }
function check(good, what) { if (!good) throw new Error(what); }
function sleep(ms) { return new Promise(done => setTimeout(done, ms)); }
async function until(test, what) {
    for (let i = 0; i < 1200; i++) {
        if (test()) return;
        await sleep(50);
    }
    throw new Error("in vain: " + what);
}
function press(...keys) {
    for (const key of keys)
        (page.document.activeElement || page.document.body).dispatchEvent(
            new page.KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
}
function all(selector) { return [...page.document.querySelectorAll(selector)]; }
function text(selector) { return page.document.querySelector(selector).textContent; }
function card(file) { return all(".card").find(c => c.title.startsWith(file)); }
async function exported() {
    let blob = null;
    const create = page.URL.createObjectURL;
    page.URL.createObjectURL = b => create.call(page.URL, blob = b);
    page.HTMLAnchorElement.prototype.click = () => {};
    press("e");
    page.URL.createObjectURL = create;
    check(blob, "nothing is exported: " + text("#toast"));
    return blob.text();
}
function done(text) {
    const bytes = new TextEncoder().encode(text || "");
    page.localStorage.setItem("done-$$", "");
    report("PASS " + btoa(String.fromCharCode(...bytes)));
}
frame.onload = async () => {
    page = frame.contentWindow;
    page.onerror = message => report("FAIL " + message);
    try { await scenario(); } catch (error) { report("FAIL " + error.message); }
};
</script>
<script src="scenario.js"></script>
PAGE
cp "$script" "$work/scenario.js"
"$browser" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --mute-audio --no-first-run \
    --user-data-dir="$profile" --allow-file-access-from-files --window-size=1420,840 \
    --autoplay-policy=no-user-gesture-required --enable-logging=stderr --remote-debugging-port=0 \
    "file://$work/harness.html" >/dev/null 2>"$work/log" &
pid=$!
result= waited=0
while [ -z "$result" ] && [ $waited -lt 1000 ] && kill -0 $pid 2>/dev/null; do
    sleep 0.1
    waited=$((waited + 1))
    result=$(sed -n 's/.*"RESULT \(.*\) END".*/\1/p; s/.*"\(Uncaught .*\)/\1/p' "$work/log" | head -n 1)
done
# The storage is on disk seconds after it was written; a run that is to find it says KEEP=1.
while [ -n "${KEEP:-}" ] && [[ $result = PASS* ]] && [ $waited -lt 1000 ] && ! grep -rqa "done-$$" "$profile"; do
    sleep 0.2
    waited=$((waited + 2))
done
kill $pid 2>/dev/null || true
wait $pid 2>/dev/null || true
case $result in
PASS*) base64 -d <<<"${result#PASS }" >"$export" ;;
*)
    echo "$script: ${result:-no answer: $(tail -n 3 "$work/log")}" >&2
    exit 1
    ;;
esac

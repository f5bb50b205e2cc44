#!/usr/bin/env bash
# The review page in headless Chromium. Usage: page.sh PROGRAM SOURCE_DIR MAKE_CLIPS
. "$(dirname "$0")/../cli/common.sh" "$@"
MAKE_CLIPS=$3
HERE=$SOURCE/tests/review
if ! command -v chromium chromium-browser google-chrome >/dev/null; then
    echo "SKIPPED: no Chromium on this machine"
    exit 77
fi

"$MAKE_CLIPS" clips || exit 1
head -c 1500 clips/ring-direct-1.mp4 >clips/broken.mp4
head -c -700 clips/lossless.mkv >clips/short.mkv
echo hello >clips/notes.txt
check "a page is made" "$PROGRAM" review clips >out.txt 2>err.txt
check "it plays and obeys keys" env KEEP=1 "$HERE/in_page.sh" clips/review.html "$HERE/scenarios/judge.js" "$WORK/profile" picks.json
check "opinions outlive the browser" "$HERE/in_page.sh" clips/review.html "$HERE/scenarios/again.js" "$WORK/profile" again.json
check "the export is the same" cmp picks.json again.json
check "batch takes it" grep -q "128x96, 8 frames, 4 steps, seed 1$" \
    <("$PROGRAM" batch --from picks.json --width 128 --height 96 --out larger --check)
{
    echo "const PICKS = new TextDecoder().decode(Uint8Array.from(atob('$(base64 -w0 picks.json)'), c => c.charCodeAt(0)));"
    cat "$HERE/scenarios/import.js"
} >import.js
check "another browser imports it" "$HERE/in_page.sh" clips/review.html import.js "$WORK/other"

# The copied command, taken by a shell, hands the recorded prompt over.
check "the command" "$HERE/in_page.sh" clips/review.html "$HERE/scenarios/command.js" "$WORK/other" command.txt
vidilate() {
    printf '%s\0' "$@" >args.txt
}
mkdir shell && (cd shell && . ../command.txt)
check "its settings file" grep -qx '{"dilate":{"mid_block":2},"dilate_tau":2}' shell/*-settings.json
mapfile -d '' -t arguments <shell/args.txt
prompt="</script><script>document.title='broken'</script><!-- \"quo'tes\" \$(id) \`id\` \\ & "$'\n \xe2\x80\xa8 日本 🎈'
check "its prompt" [ "${arguments[2]}" = "$prompt" ]

mkdir "pages #1"
check "a page that links" "$PROGRAM" review clips --no-sheet --embed never -o "pages #1/index.html" >out.txt 2>err.txt
check "it says so" grep -q "must stay where they are" out.txt
check "it plays" "$HERE/in_page.sh" "pages #1/index.html" "$HERE/scenarios/linked.js" "$WORK/linked"

"$MAKE_CLIPS" many 200 || exit 1
check "a page of 200" "$PROGRAM" review many --no-sheet >out.txt
check "few of them decode" "$HERE/in_page.sh" many/review.html "$HERE/scenarios/many.js" "$WORK/many-profile"
finish

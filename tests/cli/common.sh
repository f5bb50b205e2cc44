# Sourced by the tests of the program: PROGRAM, SOURCE, GOLDEN (parity data), an empty working folder, and
# checks that count.
set -uo pipefail
PROGRAM=$1
SOURCE=$2
GOLDEN=$3
MODEL=$SOURCE/models/shapes
WORK=$(mktemp -d)
trap 'chmod -R u+w "$WORK"; rm -rf "$WORK"' EXIT
cd "$WORK" || exit 1
PROMPT="a red circle moving right on a white background"
checks=0
failures=0

fail() {
    failures=$((failures + 1))
    echo "FAILED: $*"
}

# check "what" command...: the command succeeds.
check() {
    local what=$1
    shift
    checks=$((checks + 1))
    "$@" || fail "$what"
}

# expect CODE "words of the message" command...: the exit code, one line on stderr that holds the
# words, nothing on stdout, and no file left behind.
expect() {
    local code=$1 words=$2 before after status
    shift 2
    checks=$((checks + 1))
    before=$(find . -newermt '1970-01-01' | sort)
    "$@" >out.txt 2>err.txt </dev/null
    status=$?
    after=$(find . -newermt '1970-01-01' | sort | grep -v -x -e ./out.txt -e ./err.txt)
    before=$(grep -v -x -e ./out.txt -e ./err.txt <<<"$before")
    [ "$status" -eq "$code" ] || fail "exit code $status, expected $code: $* ($(head -c 300 err.txt))"
    [ "$(wc -l <err.txt)" -eq 1 ] || fail "$(wc -l <err.txt) lines on stderr, expected 1: $*: $(head -c 600 err.txt)"
    grep -qF -- "$words" err.txt || fail "\"$(head -c 400 err.txt)\" lacks \"$words\": $*"
    [ ! -s out.txt ] || fail "something on stdout: $*"
    [ "$before" = "$after" ] || fail "files left behind by $*: $(diff <(echo "$before") <(echo "$after"))"
    rm -f out.txt err.txt
}

finish() {
    echo "$checks checks, $failures failed"
    [ "$checks" -gt 0 ] && [ "$failures" -eq 0 ]
    exit
}

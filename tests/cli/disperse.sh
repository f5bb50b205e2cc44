#!/usr/bin/env bash
# vidilate disperse: what it writes, and what it refuses.
. "$(dirname "$0")/common.sh" "$@"
disperse() {
    "$PROGRAM" disperse "$@"
}
published=(--small 3 --large 5 --size 3 --scale 2 --eta 0.05)

check "it solves" disperse "${published[@]}" -o R.safetensors >out.txt 2>err.txt
check "one line says what was done" [ "$(wc -l <out.txt)" -eq 1 ]
check "with unknowns and equations" grep -q "25 unknowns .* 306 equations" out.txt
# Of numpy's singular values: 18.815.
check "and the condition number" grep -q "condition number about 18.8 " out.txt
check "nothing on stderr" [ ! -s err.txt ]
"$PROGRAM" inspect --json R.safetensors >inspect.txt
tr -d ' \n\t' <inspect.txt >flat.txt
check "one tensor" grep -q '"tensors":1,' flat.txt
check "R, float64, [25, 9]" grep -qF '{"name":"R","dtype":"F64","shape":[25,9]}' flat.txt

check "the published matrix is the default" disperse -o again.safetensors >/dev/null
check "the same bytes" cmp R.safetensors again.safetensors
check "an existing file is replaced" disperse --large 7 --size 4 --scale 3 -o again.safetensors >/dev/null
"$PROGRAM" inspect --json again.safetensors | tr -d ' \n\t' >flat.txt
check "3 -> 7" grep -qF '"shape":[49,9]' flat.txt
check "help" disperse --help >help.txt
check "help names every option" [ "$(grep -cE -- '--(small|large|size|scale|eta|output)' help.txt)" -ge 6 ]
rm -f ./*.txt ./*.safetensors

expect 2 "-o" disperse "${published[@]}"
expect 2 "-o" disperse "${published[@]}" -o -
for option in small large size scale; do
    for value in 0 -1 2.5 nan 1e3 "" 12x 1000000 99999999999999999999; do
        expect 2 "$option" disperse "${published[@]}" "--$option" "$value" -o x.safetensors
    done
done
for value in nan inf -inf -0.1 1e9 "" 0,5 0x; do
    expect 2 "eta" disperse "${published[@]}" --eta "$value" -o x.safetensors
done
expect 2 "odd" disperse "${published[@]}" --small 2 -o x.safetensors
expect 2 "odd" disperse "${published[@]}" --large 6 -o x.safetensors
expect 2 "above small (5)" disperse "${published[@]}" --small 5 -o x.safetensors
expect 2 "did you mean --scale" disperse --scal 2 -o x.safetensors
expect 2 "unexpected argument" disperse "${published[@]}" -o x.safetensors stray
expect 3 "do not determine" disperse "${published[@]}" --size 1 -o x.safetensors
expect 3 "do not determine" disperse "${published[@]}" --size 2 --scale 1 --eta 0 -o x.safetensors

mkdir folder.safetensors
expect 6 "folder.safetensors" disperse -o folder.safetensors
expect 6 "no/such" disperse -o no/such/R.safetensors
full_disk() {
    (ulimit -f 1 && exec "$PROGRAM" disperse -o R.safetensors)
}
expect 6 "R.safetensors" full_disk

# A manifest's own matrices: parameters that cannot be are a bad file.
manifest() {
    printf '{"cases":[{"name":"a","group":"disperse","module":%s,"settings":%s}]}' "$1" "$2" >m.json
    "$PROGRAM" forward --manifest m.json --case a -o x.safetensors
}
touch m.json
good='"small":3,"large":5,"n":3,"scale":2'
check "a case without a file" manifest '"dispersion_matrix"' "{$good,\"eta\":0.05}" >/dev/null
rm -f x.safetensors
expect 3 "m.json: a: dispersion" manifest '"dispersion_matrix"' '{}'
expect 3 "large" manifest '"dispersion_matrix"' '{"small":3,"large":99,"n":3,"scale":2}'
expect 3 "eta" manifest '"dispersion_matrix"' "{$good,\"eta\":-1}"
expect 3 "eta" manifest '"dispersion_matrix"' "{$good,\"eta\":NaN}"
expect 3 "scale" manifest '"dispersion_matrix"' '{"small":3,"large":5,"n":3,"scale":1.5}'
expect 3 "do not determine" manifest '"dispersion_matrix"' '{"small":3,"large":5,"n":1,"scale":2}'
expect 2 "cannot run module" manifest '"no_such_module"' '{}'
expect 3 "no file of inputs" manifest null '{"k5":[3,5,3,2,"0.05"]}'
kernels() {
    printf '{"cases":[{"name":"a","group":"disperse","file":"in.safetensors","settings":{"k":%s}}]}' "$1" >m.json
    "$PROGRAM" forward --manifest m.json --case a -o x.safetensors
}
cp "$SOURCE/tests/golden/cases/disperse-kernel.safetensors" in.safetensors
check "a kernel by a matrix's name" kernels '[3,5,3,2,"0.05"]' >/dev/null
rm -f x.safetensors
expect 3 "in.weight is F32[3, 2, 3, 3]" kernels '[5,7,4,2,"0.05"]'
expect 3 "large 3" kernels '[3,3,3,2,"0.05"]'
for name in '[]' '[3,5,3,2]' '[3,5,3,2,"x"]' '[3,5,3,2.5,"0.05"]' '[3,5,-3,2,"0.05"]' \
    '[3,5,3,2,"0.05",1]' '["3",5,3,2,"0.05"]' '[3,1e300,3,2,"0.05"]' '"R"' 1; do
    expect 3 '$.cases[0].settings.k: must be [small, large, size, scale, eta]' kernels "$name"
done
finish

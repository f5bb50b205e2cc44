#!/usr/bin/env bash
# vidilate bench: what it prints, that its parts add up, and what it refuses.
. "$(dirname "$0")/common.sh" "$@"
bench() {
    "$PROGRAM" bench "$@"
}
# value KEY: a number of the flattened JSON, whose keys "min" and "median" are unique in their object.
value() {
    sed -E "s/.*\"$1\":([-0-9.e+]+).*/\1/" flat.txt
}
# holds "condition of awk"
holds() {
    awk "BEGIN { exit !($1) }"
}
flatten() {
    tr -d ' \n\t' <out.json >flat.txt
}

mkdir m
cp -r "$MODEL/unet" m/unet
check "a folder of unet/ alone" bench --model m --frames 4 --width 64 --height 48 --steps 2 --json >out.json 2>err.txt
check "nothing on stderr" [ ! -s err.txt ]
flatten
for key in step_ms forward_ms load_ms peak_rss_bytes tflop matmul_peak_tflops device ops; do
    check "key $key" grep -q "\"$key\":" flat.txt
done
for times in step_ms forward_ms; do
    min=$(sed -E "s/.*\"$times\":\{\"min\":([0-9.e+-]+),.*/\1/" flat.txt)
    median=$(sed -E "s/.*\"$times\":\{[^}]*\"median\":([0-9.e+-]+),.*/\1/" flat.txt)
    check "$times: 0 < $min <= $median" holds "$min > 0 && $min <= $median"
done
step=$(sed -E 's/.*"step_ms":\{"min":([0-9.e+-]+),"median":([0-9.e+-]+),.*/\1 \2/' flat.txt)
sed -E 's/.*"ops":\[//; s/\},\{/\n/g' flat.txt |
    sed -E 's/.*"name":"([^"]*)","calls":([0-9]+),"ms":([0-9.e+-]+),"tflops":([0-9.e+-]+),"gb_s":([0-9.e+-]+).*/\2 \3 \4 \5/' >ops.txt
check "each op has its five members" [ "$(grep -cE '^[0-9]+( [0-9.e+-]+){3}$' ops.txt)" -eq "$(grep -o '"name":' flat.txt | wc -l)" ]
check "ops of all kinds" [ "$(wc -l <ops.txt)" -gt 20 ]
for op in conv2d linear attention group_norm layer_norm resize_nearest; do
    check "op $op" grep -q "\"name\":\"$op" flat.txt
done
# Ops take their time one after another: with two steps their mean lies between half of the sum of
# the times and the sum, and what is outside ops is small.
read -r calls ms work < <(awk '{ c += $1; m += $2; w += $2 * $3 } END { print c, m, w }' ops.txt)
check "the ops' times add up to a step ($ms of $step)" holds \
    "$ms > 0.5 * ${step% *} && $ms < 1.05 * ${step#* }"
check "no op ran less than once ($calls calls)" holds "$calls >= $(wc -l <ops.txt)"
# ms * TFLOP/s is GFLOP, and a step is two forwards.
check "the ops' work is that of two forwards ($work)" holds \
    "sqrt(($work / 2000 / $(value tflop) - 1) ^ 2) < 0.001"
# By hand for this size: two branches of 4 frames of 8x6, and a kernel 3x3.
sed -E 's/\},\{/\n/g' flat.txt | grep -F '"conv2d3x3s1d1,14->488x6x8"' |
    sed -E 's/.*"ms":([0-9.e+-]+),"tflops":([0-9.e+-]+).*/\1 \2/' >conv_in.txt
check "the work of conv_in" holds \
    "$(awk '{ print $1 * $2 * 1e9 }' conv_in.txt) / (2.0 * 2 * 4 * 48 * 4 * 48 * 9) - 1 < 0.001"
check "a rate of products" holds "$(value matmul_peak_tflops) > 0.001"
check "memory at least the weights" holds "$(value peak_rss_bytes) > $(value weight_bytes)"
check "the default size is the model's" bench --model "$MODEL" --steps 1 --dtype f32 --json >out.json
flatten
check "8 frames of 64x64 in f32" grep -q '"dtype":"f32","frames":8,"width":64,"height":64' flat.txt

printf '{"dilate": {"mid_block": 2.5}}' >s.json
check "settings" bench --model m --frames 2 --steps 1 --settings s.json --json >out.json
flatten
check "re-dilate" grep -q '"name":"conv2d3x3s1d3,3' flat.txt
check "a table" bench --model m --frames 2 --steps 1 >table.txt
check "says the device and the peak" grep -q "best matrix product" table.txt
check "has a last line of all ops" grep -qE '^all +[0-9]+ +[0-9.]+ 100.0%' table.txt
check "help" bench --help >help.txt
rm -f ./*.txt out.json

for option in frames width height steps; do
    for wrong in 0 -1 2.5 nan "" 1x 99999999999999999999; do
        expect 2 "--$option" bench --model m "--$option" "$wrong"
    done
done
expect 2 "multiple of 8" bench --model m --width 60
expect 2 "--frames 5000" bench --model m --frames 5000
expect 2 "threads" bench --model m --threads -1
expect 2 "must be one of" bench --model m --dtype f64
expect 2 "did you mean --model" bench --modl m
expect 2 "unexpected argument" bench m
expect 3 "nowhere/unet/config.json" bench --model nowhere
expect 3 "no.json" bench --model m --settings no.json
printf '{"dilate": {"no_block": 2}}' >s.json
expect 3 "no_block" bench --model m --settings s.json
expect 5 "CUDA" bench --model m --backend cuda
expect 5 "f16" bench --model m --dtype f16
expect 4 "memory" bench --model m --width 16384 --height 16384 --frames 1024
truncate -s 1000 m/unet/diffusion_pytorch_model.safetensors
expect 3 "diffusion_pytorch_model.safetensors" bench --model m
finish

#!/usr/bin/env bash
# --seed-list and --repeat: several clips of one command, their names, and the frames of single renders.
. "$(dirname "$0")/common.sh" "$@"
render() {
    "$PROGRAM" render --model "$MODEL" --steps 2 --prompt "$PROMPT" "$@"
}
digests() {
    sed 's/.*sha256://' "$1" | tr '\n' ' '
}
mkdir out
one=$(for seed in 7 2 3; do render --seed $seed -o hash:; done | sed 's/.*sha256://' | tr '\n' ' ')

check "a list" render --seed-list 7,2-3 -o out/clip.mp4 >out.txt
check "its names" [ "$(ls -A out | tr '\n' ' ')" = "clip-seed-2.mp4 clip-seed-3.mp4 clip-seed-7.mp4 " ]
check "its order" [ "$(grep -o '^out/clip-seed-.\.mp4: 64x64, 8 frames at 8 fps, seed .' out.txt | tail -c 2)" = 3 ]
check "the frames of single renders" [ "$(digests out.txt)" = "$one" ]
check "the seed is in the file" grep -qE '"seed":[[:space:]]*"7"' <("$PROGRAM" inspect --json out/clip-seed-7.mp4)
check "no file, no name" [ "$(render --seed-list 7,2,3 -o hash: | sed 's/.*sha256://' | tr '\n' ' ')" = "$one" ]

# What is there is left alone; the same command makes the rest.
rm out/clip-seed-3.mp4
check "again" render --seed-list 7,2-3 -o out/clip.mp4 >out.txt
check "only what is missing" [ "$(grep -c 'finished already' out.txt) $(wc -l <out.txt)" = "2 3" ]
expect 6 "out/clip-seed-7.mp4: is there already, made with another steps" render --steps 1 --seed-list 1,7 -o out/clip.mp4
rm out/*

check "--repeat" render --repeat 2 --seed 2 -o out/%04d.png >out.txt
check "frames" [ "$(ls out | tr '\n' ' ')" = "$(for seed in 2 3; do printf "seed-$seed-%04d.png " 1 2 3 4 5 6 7 8; done)" ]
check "their digests" [ "7x $(digests out.txt)" = "7x ${one#* }" ]
for name in f f- f_; do
    render --repeat 1 --frames 1 -o out/$name%02d.png >out.txt
done
check "one dash or underscore" [ "$(ls out/f* | tr '\n' ' ')" = "out/f-seed-0-01.png out/f_seed-0-01.png " ]
check "the last seeds" render --repeat 2 --seed 18446744073709551614 -o null: >out.txt
check "of a clip" grep -q 'seed 18446744073709551615' out.txt
"$PROGRAM" render --model "$MODEL" --steps 2 --prompt "$PROMPT" --seed 4 -o four.mp4 >out.txt
check "other seeds of a clip" "$PROGRAM" render --model "$MODEL" --from four.mp4 --seed-list 7,2,3 -o hash: >out.txt
check "have its settings" [ "$(digests out.txt)" = "$one" ]

for list in '' , 1, ,1 1,,2 1-2-3 3-2 -1 1- x 1x 1,x '1, 2' 1.5 18446744073709551616 0-18446744073709551616; do
    expect 2 "--seed-list" render --seed-list "$list" -o x.mp4
done
expect 2 "has the seed 5 twice" render --seed-list 1,5,3-8 -o x.mp4
expect 2 "more than 10000 seeds" render --seed-list 0-18446744073709551615 -o x.mp4
expect 2 "more than 10000 seeds" render --seed-list 1-6000,10001-15000 -o x.mp4
for count in 0 -1 10001 1x; do
    expect 2 "--repeat" render --repeat $count -o x.mp4
done
expect 2 "goes beyond 2^64 - 1" render --repeat 3 --seed 18446744073709551614 -o x.mp4
expect 2 "--seed-list or --repeat, not both" render --seed-list 1 --repeat 2 -o x.mp4
expect 2 "--seed-list or --seed, not both" render --seed-list 1 --seed 2 -o x.mp4
expect 2 "one file for several clips" render --repeat 2 --save-latents x.st -o x.mp4
expect 2 "would not differ" render --repeat 2 --latents x.st -o x.mp4
expect 2 "x-seed-1.avi: unknown kind" render --seed-list 1 -o x.avi
expect 6 "no/such" render --seed-list 1,2 -o no/such/x.mp4

# One that fails does not stop the rest.
cp -r "$MODEL" m
chmod -R u+w m
sed -i 's/"shape":\[48,4,3,3\]/"shape":[48,4,3,4]/' m/unet/diffusion_pytorch_model.safetensors
"$PROGRAM" render --model m --steps 2 --prompt "$PROMPT" --repeat 2 -o x.mp4 >out.txt 2>err.txt
check "the code of a failure" [ $? -eq 3 ]
check "each is told" [ "$(cut -d: -f1,2 err.txt | tr '\n' ' ')" = "vidilate: seed 0 vidilate: seed 1 vidilate: render " ]
check "and how many" grep -q 'render: 2 of 2 clips failed' err.txt
finish

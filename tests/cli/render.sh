#!/usr/bin/env bash
# Renders that must come out right: files by ffprobe, determinism, replay, latents, other schedulers.
. "$(dirname "$0")/common.sh" "$@"
render() {
    "$PROGRAM" render --model "$MODEL" --prompt "$PROMPT" "$@"
}
digest() {
    render "$@" -o hash: 2>/dev/null | sed 's/.*sha256://'
}

check "a clip renders" render --steps 4 --seed 3 -o clip.mp4 >out.txt
check "it says where it is" grep -q '^clip.mp4: 64x64, 8 frames' out.txt
probe=$(ffprobe -v error -count_frames -show_streams -show_format -of flat clip.mp4)
for fact in 'codec_name="h264"' 'width=64' 'height=64' 'pix_fmt="yuv420p"' 'color_space="bt709"' \
    'color_range="tv"' 'r_frame_rate="8/1"' 'nb_read_frames="8"' 'duration="1.000000"'; do
    check "ffprobe: $fact" grep -qF "$fact" <<<"$probe"
done
check "moov comes first" [ "$(grep -abo -m1 moov clip.mp4 | head -1 | cut -d: -f1)" -lt \
    "$(grep -abo -m1 mdat clip.mp4 | head -1 | cut -d: -f1)" ]
"$PROGRAM" inspect --json clip.mp4 >settings.json
for fact in '"prompt":[[:space:]]*"'"$PROMPT"'"' '"steps":[[:space:]]*4' '"seed":[[:space:]]*"3"' '"model-hash":[[:space:]]*"sha256:' '"version"'; do
    check "inspect: $fact" grep -qE "$fact" settings.json
done
check "nothing else is left" [ "$(ls -A | sort | tr '\n' ' ')" = "clip.mp4 out.txt settings.json " ]

# The same frames at any thread count, and from the file itself.
first=$(digest --steps 4 --seed 3)
check "a digest has 64 digits" [ ${#first} -eq 64 ]
for threads in 1 2 3; do
    check "$threads threads" [ "$(digest --steps 4 --seed 3 --threads $threads)" = "$first" ]
    check "$threads threads, float32" [ "$(digest --steps 2 --dtype f32 --threads $threads)" = \
        "$(digest --steps 2 --dtype f32 --threads 2)" ]
done
check "a larger size, 1 and 2 threads" [ "$(digest --steps 1 --width 128 --height 96 --threads 1)" = \
    "$(digest --steps 1 --width 128 --height 96 --threads 2)" ]
check "another seed differs" [ "$(digest --steps 4 --seed 4)" != "$first" ]
check "another prompt differs" [ "$(digest --steps 4 --seed 3 --prompt 'a blue ring')" != "$first" ]
check "replay from the clip" \
    [ "$("$PROGRAM" render --model "$MODEL" --from clip.mp4 -o hash: | sed 's/.*sha256://')" = "$first" ]
check "replay at another size" grep -q '128x128' \
    <("$PROGRAM" render --model "$MODEL" --from clip.mp4 --scale 2 --steps 1 -o null:)
cp -r "$MODEL" other
chmod -R u+w other
printf '\1\1' | dd of=other/vae/diffusion_pytorch_model.safetensors conv=notrunc status=none seek=1500000 bs=1
"$PROGRAM" render --model other --from clip.mp4 --steps 1 -o null: >/dev/null 2>err.txt
check "replay with other weights warns" grep -q "warning: clip.mp4 was rendered with other weights" err.txt
rm -r other

# Latents out and in: decoding needs no noise, and the final latents are what a render started from.
check "latents are saved" render --steps 2 --save-latents end.safetensors -o null: >/dev/null
check "their shape" grep -qF '[1,4,8,16,16]' <("$PROGRAM" inspect --json end.safetensors | tr -d ' \n')
check "latents are read" render --steps 2 --latents end.safetensors -o null: >/dev/null
expect 3 "wants [1, 4, 8, 32, 32]" render --scale 2 --latents end.safetensors -o x.mp4

# Every scheduler by name, sizes, PNG frames, an odd size padded.
for scheduler in ddim dpmpp2m dpmpp2m-karras euler euler-karras euler-a unipc pndm; do
    check "$scheduler" render --steps 4 --scheduler $scheduler -o null: >/dev/null
done
check "eta 1" render --steps 2 --eta 1 --scheduler ddim -o null: >/dev/null
check "no guidance" render --steps 2 --guidance 1 -o null: >/dev/null
check "a negative prompt" render --steps 2 --negative-prompt "a blue square" -o null: >/dev/null
check "PNG frames" render --steps 1 -o 'f%04d.png' >/dev/null
check "eight of them" [ "$(ls f*.png | tr '\n' ' ')" = \
    "f0001.png f0002.png f0003.png f0004.png f0005.png f0006.png f0007.png f0008.png " ]
check "a size" render --steps 1 --width 100 --height 36 --frames 3 --fps 23.976 -o s.mp4 >/dev/null
check "its rate" [ "$(ffprobe -v error -select_streams v -show_entries stream=width,height,r_frame_rate,nb_frames \
    -of csv=p=0 s.mp4)" = "100,36,24000/1001,3" ]
printf '%s\n' "$PROMPT" >prompt.txt
check "a prompt from a file" [ "$(digest --steps 4 --seed 3 --prompt @prompt.txt)" = "$first" ]

# Progress as JSON: one object a line.
check "json progress" render --steps 2 --progress json -o null: 2>progress.txt >/dev/null
check "its lines" [ "$(grep -c '^{"stage":.*}$' progress.txt)" -eq "$(wc -l <progress.txt)" ]
check "its steps" grep -q '"stage":"denoise","done":2,"total":2' progress.txt
for command in render inspect forward; do
    check "$command --help" grep -q "^Usage: vidilate $command" <("$PROGRAM" $command --help)
done
check "--version" grep -qE '^vidilate [0-9]+\.[0-9]+\.[0-9]+$' <("$PROGRAM" --version)
finish

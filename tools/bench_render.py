#!/usr/bin/env python3
"""Times whole renders of vidilate beside diffusers: prompt to MP4, in turns in one run.

    tools/bench_render.py build/vidilate --model models/shapes [--dtype bf16] [--steps 50] [--rounds 3]
    tools/bench_render.py build/vidilate --model /tmp/render --unet /tmp/ms17b/unet --frames 16 --width 256 --height 256

Each turn is a process of its own. vidilate's time is that of the command, loading included; diffusers' that of the
pipeline's call (text encoder, steps with guidance, decode) and of ffmpeg writing the MP4, its loading printed apart.
--unet makes the folder if it is not there: that UNet (of tools/bench_peers.py, say) with a text encoder and an
autoencoder of random weights, of text-to-video-ms-1.7b's shapes. Needs torch, diffusers, transformers, numpy, ffmpeg."""
import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

PROMPT = "a red circle moving right on a white background"
GUIDANCE = 9.0


def make_pipeline(folder, unet):
    import torch
    from check_render import wake
    from diffusers import AutoencoderKL, DDIMScheduler
    from transformers import CLIPTextConfig, CLIPTextModel
    folder = pathlib.Path(folder)
    source = pathlib.Path(__file__).parent.parent / "models/shapes"
    folder.mkdir(parents=True)
    torch.manual_seed(1)
    text = CLIPTextConfig(hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16,
                          hidden_act="gelu", max_position_embeddings=77)
    wake(CLIPTextModel(text)).half().save_pretrained(folder / "text_encoder")
    vae = AutoencoderKL(block_out_channels=(128, 256, 512, 512), layers_per_block=2, sample_size=256,
                        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4)
    wake(vae).half().save_pretrained(folder / "vae")
    DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
                  set_alpha_to_one=False, steps_offset=1).save_pretrained(folder / "scheduler")
    (folder / "tokenizer").symlink_to((source / "tokenizer").resolve())
    (folder / "unet").symlink_to(pathlib.Path(unet).resolve())
    (folder / "model_index.json").write_bytes((source / "model_index.json").read_bytes())


def turn_diffusers(args, path):
    import torch
    from diffusers import TextToVideoSDPipeline
    torch.set_num_threads(args.threads)
    start = time.perf_counter()
    pipe = TextToVideoSDPipeline.from_pretrained(
        args.model, torch_dtype=torch.bfloat16 if args.dtype == "bf16" else torch.float32)
    pipe.set_progress_bar_config(disable=True)
    load = time.perf_counter() - start
    start = time.perf_counter()
    frames = pipe(PROMPT, num_inference_steps=args.steps, guidance_scale=GUIDANCE, height=args.height, width=args.width,
                  num_frames=args.frames, output_type="np", generator=torch.Generator().manual_seed(1)).frames[0]
    raw = (frames.clip(0, 1) * 255).round().astype("uint8").tobytes()
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s",
                    f"{args.width}x{args.height}", "-r", "8", "-i", "-", "-c:v", "libx264", "-pix_fmt", "yuv420p", path],
                   input=raw, check=True)
    wall = time.perf_counter() - start
    print(json.dumps({"wall": wall, "load": load,
                      "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


def turn_vidilate(args, path):
    start = time.perf_counter()
    subprocess.run([args.vidilate, "render", "--model", args.model, "--prompt", PROMPT, "--steps", str(args.steps),
                    "--guidance", str(GUIDANCE), "--frames", str(args.frames), "--width", str(args.width), "--height",
                    str(args.height), "--dtype", args.dtype, "--threads", str(args.threads), "--seed", "1",
                    "--method", "direct", "-o", path], check=True, stdout=subprocess.DEVNULL)
    print(json.dumps({"wall": time.perf_counter() - start, "load": 0,
                      "peak": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024}))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("vidilate")
    p.add_argument("--model", required=True)
    p.add_argument("--unet", help="the UNet's folder, to make --model around it")
    p.add_argument("--frames", type=int, default=8)
    p.add_argument("--width", type=int, default=64)
    p.add_argument("--height", type=int, default=64)
    p.add_argument("--steps", type=int, default=50)
    p.add_argument("--dtype", choices=["bf16", "f32"], default="bf16")
    p.add_argument("--rounds", type=int, default=1)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--turn", nargs=2, help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.turn:
        {"diffusers": turn_diffusers, "vidilate": turn_vidilate}[args.turn[0]](args, args.turn[1])
        return
    if args.unet and not os.path.isdir(args.model):
        make_pipeline(args.model, args.unet)
    times = {"diffusers": [], "vidilate": []}
    with tempfile.TemporaryDirectory() as temp:
        for i in range(args.rounds):
            for name, results in times.items():
                run = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--turn", name, f"{temp}/{name}-{i}.mp4"],
                                     check=True, stdout=subprocess.PIPE, text=True)
                results.append(json.loads(run.stdout.splitlines()[-1]))
    print(f"{args.frames} frames of {args.width}x{args.height}, {args.steps} steps with guidance, {args.dtype}, "
          f"{args.threads} threads")
    for name, results in times.items():
        walls = sorted(r["wall"] for r in results)
        print(f"{name:10} {walls[0]:7.2f} - {walls[-1]:.2f} s   load apart {min(r['load'] for r in results):.1f} s   "
              f"peak {max(r['peak'] for r in results) / 2**20:.0f} MiB")
    least = {name: min(r["wall"] for r in results) for name, results in times.items()}
    print(f"ratio {least['diffusers'] / least['vidilate']:.2f}")


if __name__ == "__main__":
    main()

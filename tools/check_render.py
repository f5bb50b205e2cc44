#!/usr/bin/env python3
"""Renders one prompt with diffusers and with vidilate (float32, same seed) and compares the frames.

    tools/check_render.py build/vidilate models/shapes [--steps 10] [--eta 1] [--scheduler EulerDiscreteScheduler=euler]

Needs torch, diffusers, transformers, numpy and pillow. Expect bytes that differ by at most 1, and few of them.
"""
import argparse
import pathlib
import subprocess
import tempfile

import diffusers
import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vidilate")
    parser.add_argument("model")
    parser.add_argument("--prompt", default="a red circle moving right on a white background")
    parser.add_argument("--negative-prompt")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--guidance", type=float, default=7.5)
    parser.add_argument("--eta", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--height", type=int, default=64)
    parser.add_argument("--scheduler", help="DIFFUSERS_CLASS=name of vidilate's")
    parser.add_argument("--dtype", default="f32")
    args = parser.parse_args()

    pipe = DiffusionPipeline.from_pretrained(args.model, torch_dtype=torch.float32)
    command = [args.vidilate, "render", "--model", args.model, "--prompt", args.prompt, "--dtype", args.dtype]
    for name in ("steps", "guidance", "eta", "seed", "frames", "width", "height"):
        command += [f"--{name}", str(getattr(args, name))]
    if args.negative_prompt is not None:
        command += ["--negative-prompt", args.negative_prompt]
    if args.scheduler:
        theirs, ours = args.scheduler.split("=")
        pipe.scheduler = getattr(diffusers, theirs).from_config(pipe.scheduler.config)
        command += ["--scheduler", ours]
    frames = pipe(args.prompt, negative_prompt=args.negative_prompt, num_frames=args.frames, width=args.width,
                  height=args.height, num_inference_steps=args.steps, guidance_scale=args.guidance, eta=args.eta,
                  generator=torch.Generator("cpu").manual_seed(args.seed), output_type="np").frames[0]
    expected = np.round(frames * 255).astype(int)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(command + ["-o", f"{folder}/%04d.png"], check=True, stdout=subprocess.DEVNULL)
        files = sorted(pathlib.Path(folder).glob("*.png"))
        got = np.stack([np.asarray(Image.open(f)).astype(int) for f in files])
    difference = np.abs(got - expected)
    print(f"{difference.size} bytes: {np.count_nonzero(difference)} differ, by {difference.max()} at most")


if __name__ == "__main__":
    main()

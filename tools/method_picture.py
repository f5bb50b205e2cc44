#!/usr/bin/env python3
"""Draws docs/methods.png: the same seed by each method at 2x and 4x, a method a row, beside the clip at the model's own size.

    python3 tools/method_picture.py --seed 3001 --methods direct,redilate,auto,low-res --scales 2,4

Three frames of each clip, first to last, shown at one size.  The prompt is the one that tools/score_shapes.py gives the seed,
unless --prompt names another.  Needs numpy and pillow.
"""
import argparse
import os
import subprocess
import tempfile

import numpy as np
from PIL import Image, ImageDraw

import score_shapes
import shapes_data as data


def frames_of(args, method, scale, prompt):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([args.vidilate, "render", "--model", args.model, "--prompt", prompt, "--seed", str(args.seed),
                        "--scale", str(scale), "--steps", str(args.steps), "--method", method,
                        "-o", os.path.join(folder, "%04d.png")], check=True, stdout=subprocess.DEVNULL)
        return score_shapes.read_frames(folder)


def strip(frames, cell):
    """Three frames side by side, cell pixels high."""
    chosen = frames[np.linspace(0, len(frames) - 1, 3).round().astype(int)]
    images = [Image.fromarray((f * 255 + 0.5).astype(np.uint8)) for f in chosen]
    images = [i.resize((cell * i.width // i.height, cell), Image.LANCZOS) for i in images]
    return np.concatenate([np.pad(np.asarray(i), ((2, 2), (2, 2), (0, 0)), constant_values=128) for i in images], 1)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--vidilate", default="build/vidilate")
    p.add_argument("--model", default="models/shapes")
    p.add_argument("--seed", type=int, default=3001)
    p.add_argument("--prompt")
    p.add_argument("--steps", type=int, default=50)
    p.add_argument("--scales", default="2,4")
    p.add_argument("--methods", default="direct,redilate,disperse,ndcfg,attn-scale,freeu,low-res,auto")
    p.add_argument("--cell", type=int, default=112, help="pixels of a frame in the picture")
    p.add_argument("--out", default="docs/methods.png")
    args = p.parse_args()
    prompt = args.prompt or data.caption(score_shapes.spec_of(args.seed))
    own = strip(frames_of(args, "direct", 1, prompt), args.cell)
    scales = args.scales.split(",")
    rows = [("own size", own)]
    for method in args.methods.split(","):
        rows.append((method, *[strip(frames_of(args, method, s, prompt), args.cell) for s in scales]))
        print(method, flush=True)
    high, wide, left, top = own.shape[0], own.shape[1], 84, 16
    sheet = Image.new("RGB", (left + (wide + 8) * len(scales), top + high * len(rows)), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for k, scale in enumerate(scales):
        draw.text((left + (wide + 8) * k, 2), f"{scale}x" + (f": {prompt}" if k == 0 else ""), fill=(0, 0, 0))
    for y, (name, *strips) in enumerate(rows):
        draw.text((4, top + high * y + high // 2 - 6), name, fill=(0, 0, 0))
        for k, picture in enumerate(strips):
            sheet.paste(Image.fromarray(picture), (left + (wide + 8) * k, top + high * y))
    sheet.quantize(192).save(args.out, optimize=True)
    print(args.out)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Scores clips of the shapes model: one object in every frame, right colour, right shape, right motion.

    python3 tools/score_shapes.py --vidilate build/vidilate --model models/shapes --clips 200 --first 1000
    python3 tools/score_shapes.py --diffusers --model models/shapes --clips 200 --first 1000 --json scores.json
    python3 tools/score_shapes.py --truth --clips 2000          # the classifier itself, on clips from the generator
    python3 tools/score_shapes.py --clips-dir DIR ...           # frames already on disk, as a run with --keep left them

Clip i (i from --first) has the prompt drawn with the seed i and is rendered with the seed i, so that two models
given the same --first are asked for the same clips.  Seeds under 1000 are for looking at models in training;
figures to publish use seeds from 1000 on.  Any size works.  Arguments after `--` go to vidilate as they are:

    python3 tools/score_shapes.py --vidilate build/vidilate --model models/shapes -- --width 128 --height 128

An object is a connected region (8 neighbours) of more than 0.4 % of the frame, each pixel of which differs by more
than 0.25 in some channel from the median of the frame's border.  Needs numpy and pillow; --diffusers needs torch and
diffusers too.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np

import shapes_data as data

KEYS = ("one object", "colour", "shape", "motion", "all four")


# --- measuring one frame -----------------------------------------------------------------------------------

def label(mask):
    """Connected regions, 8 neighbours: labels (0 = none) and how many, by runs and union-find."""
    h, w = mask.shape
    out = np.zeros((h, w), np.int32)
    parent = [0]

    def find(i):
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    above = []
    for y in range(h):
        edge = np.flatnonzero(np.diff(np.concatenate(([0], mask[y].astype(np.int8), [0]))))
        row = []
        for a, b in zip(edge[::2], edge[1::2]):
            mine = 0
            for c, d, k in above:
                if c <= b and a <= d:              # touches, diagonally too
                    k = find(k)
                    if mine and k != mine:
                        parent[max(k, mine)] = min(k, mine)
                    mine = min(k, mine) if mine else k
            if not mine:
                mine = len(parent)
                parent.append(mine)
            row.append((a, b, mine))
            out[y, a:b] = mine
        above = row
    names = {0: 0}
    lut = np.zeros(len(parent), np.int32)
    for i in range(1, len(parent)):
        lut[i] = names.setdefault(find(i), len(names))
    return lut[out], len(names) - 1


def fit(mask, shape, steps=2):
    """Best IoU of a region with a drawn shape, over its size and a small shift, at the region's own place."""
    h, w = mask.shape
    ys, xs = np.nonzero(mask)
    x0, x1, y0, y1 = xs.min(), xs.max() + 1, ys.min(), ys.max() + 1
    # centre and radius from the bounding box, where the region does not run out of the frame
    wide, high = x1 - x0, y1 - y0
    if shape == "triangle":
        r = max(wide / 2 / 1.0046, high / 1.74)
        cx, cy = (x0 + x1) / 2, y1 - 0.58 * r
    elif shape == "square":
        r = max(wide, high) / 2 / 0.86
        cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    else:
        r = max(wide, high) / 2
        cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    gx, gy = np.arange(w)[None, :] + 0.5, np.arange(h)[:, None] + 0.5
    best = 0.0
    area = mask.sum()
    for k in (0.92, 1.0, 1.08):
        for dx, dy in ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)):
            u = 0.04 * r
            m = data.distance(shape, gx - cx - dx * u, gy - cy - dy * u, r * k) < 0
            both = np.logical_and(m, mask).sum()
            best = max(best, both / max(1, m.sum() + area - both))
    return best


def measure(frame):
    """What one frame (h, w, 3), 0..1, shows."""
    h, w, _ = frame.shape
    border = np.concatenate([frame[0], frame[-1], frame[:, 0], frame[:, -1]])
    back = np.median(border, axis=0)
    diff = np.abs(frame - back).max(-1)
    lab, n = label(diff > 0.25)
    sizes = np.bincount(lab.ravel(), minlength=n + 1)[1:]
    count = int((sizes > 0.004 * h * w).sum())
    out = {"objects": count, "background": back}
    if n == 0:
        return out
    mask = lab == 1 + int(sizes.argmax())
    ys, xs = np.nonzero(mask)
    inner = frame[mask]
    strong = diff[mask]
    out.update(area=float(mask.mean()), x=float(xs.mean() + 0.5) / w * 2 - 1, y=float(ys.mean() + 0.5) / h * 2 - 1,
               rgb=np.median(inner[strong >= np.median(strong)], axis=0),
               iou={s: float(fit(mask, s)) for s in data.SHAPES})
    return out


def name_colour(rgb):
    """The nearest colour name, by direction away from gray, then by plain distance."""
    def key(c):
        c = np.asarray(c, float)
        chroma = c - c.mean()
        return np.concatenate([chroma / (np.linalg.norm(chroma) + 0.05), 0.5 * c])
    k = key(rgb)
    return min(data.COLOURS, key=lambda n: np.linalg.norm(key(data.COLOURS[n]) - k))


def judge(frames, spec):
    """Scores of one clip, frames (n, h, w, 3) in 0..1, against its (colour, shape, motion, background)."""
    return judge_measured([measure(f) for f in frames], spec)


def judge_measured(ms, spec):
    """The same from what `measure` found in each frame."""
    colour, shape, motion, _ = spec
    seen = [m for m in ms if "rgb" in m]
    out = {"objects": float(np.mean([m["objects"] for m in ms])), "one object": all(m["objects"] == 1 for m in ms),
           "area": float(np.mean([m.get("area", 0.0) for m in ms])), "got": {}}
    if len(seen) < 2:
        out.update({"colour": False, "shape": False, "motion": False, "all four": False})
        return out
    got = out["got"]
    got["colour"] = name_colour(np.median([m["rgb"] for m in seen], axis=0))
    # larger objects say more about the shape
    weight = np.array([m["area"] for m in seen])
    iou = {s: float(np.average([m["iou"][s] for m in seen], weights=weight)) for s in data.SHAPES}
    got["shape"] = max(iou, key=iou.get)
    out["iou"] = iou[shape]
    i = np.array([k for k, m in enumerate(ms) if "rgb" in m], float)
    i = (i - i.mean()) / max(1, len(ms) - 1)
    slope = lambda v: float((i * (v - v.mean())).sum() / (i * i).sum())     # change over the whole clip
    dx, dy = slope(np.array([m["x"] for m in seen])), slope(np.array([m["y"] for m in seen]))
    dr = slope(np.log(np.sqrt([m["area"] for m in seen])))
    got.update(dx=dx, dy=dy, dr=dr)
    if abs(dr) > 0.5:
        got["motion"] = "growing" if dr > 0 else "shrinking"
    elif max(abs(dx), abs(dy)) > 0.3:
        if abs(dx) > abs(dy):
            got["motion"] = "moving right" if dx > 0 else "moving left"
        else:
            got["motion"] = "moving down" if dy > 0 else "moving up"
    elif max(abs(dx), abs(dy)) < 0.15 and abs(dr) < 0.25:
        got["motion"] = "standing still"
    else:
        got["motion"] = "unclear"
    for k, want in (("colour", colour), ("shape", shape), ("motion", motion)):
        out[k] = got[k] == want
    out["all four"] = bool(out["one object"] and out["colour"] and out["shape"] and out["motion"])
    return out


# --- clips -------------------------------------------------------------------------------------------------

def spec_of(i):
    return data.ALL[int(np.random.default_rng(100003 * i + 17).integers(len(data.ALL)))]


def from_truth(args, ids):
    for i in ids:
        yield i, data.clip(spec_of(i), np.random.default_rng(i + 10**6), size=args.size)


def read_frames(folder):
    from PIL import Image
    names = sorted(n for n in os.listdir(folder) if n.lower().endswith(".png"))
    return np.stack([np.asarray(Image.open(os.path.join(folder, n)).convert("RGB"), np.float32) / 255 for n in names])


def write_frames(folder, frames):
    from PIL import Image
    os.makedirs(folder, exist_ok=True)
    for k, f in enumerate(frames):
        Image.fromarray((np.clip(f, 0, 1) * 255 + 0.5).astype(np.uint8)).save(os.path.join(folder, f"{k:04d}.png"))


def from_vidilate(args, ids):
    with tempfile.TemporaryDirectory() as tmp:
        for i in ids:
            folder = os.path.join(args.keep or tmp, f"{i:05d}")
            os.makedirs(folder, exist_ok=True)
            cmd = [args.vidilate, "render", "--model", args.model, "--prompt", data.caption(spec_of(i)), "--seed", str(i),
                   "-o", os.path.join(folder, "%04d.png"), *args.extra]
            if args.steps:
                cmd += ["--steps", str(args.steps)]
            if args.guidance:
                cmd += ["--guidance", str(args.guidance)]
            if args.size != 64:
                cmd += ["--width", str(args.size), "--height", str(args.size)]
            subprocess.run(cmd, check=True, stdout=subprocess.DEVNULL)
            yield i, read_frames(folder)


def from_diffusers(args, ids):
    import torch
    from diffusers import TextToVideoSDPipeline
    torch.set_num_threads(args.threads)
    pipe = TextToVideoSDPipeline.from_pretrained(args.model).to(torch.float32)
    pipe.set_progress_bar_config(disable=True)
    for k in range(0, len(ids), args.batch):
        part = ids[k:k + args.batch]
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            frames = pipe([data.caption(spec_of(i)) for i in part], num_frames=8, height=args.size, width=args.size,
                          num_inference_steps=args.steps or 50, guidance_scale=args.guidance or 7.5,
                          generator=[torch.Generator().manual_seed(i) for i in part], output_type="np").frames
        for i, f in zip(part, np.asarray(frames)):
            if args.keep:
                write_frames(os.path.join(args.keep, f"{i:05d}"), f)
            yield i, f


def from_folder(args, ids):
    for i in ids:
        yield i, read_frames(os.path.join(args.clips_dir, f"{i:05d}"))


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0], epilog="arguments after -- go to vidilate")
    p.add_argument("--vidilate", help="the program to render with")
    p.add_argument("--diffusers", action="store_true", help="render with diffusers' TextToVideoSDPipeline")
    p.add_argument("--truth", action="store_true", help="score the generator's own clips")
    p.add_argument("--clips-dir", help="score frames on disk: DIR/<seed as 5 digits>/*.png")
    p.add_argument("--model", help="the model's folder")
    p.add_argument("--clips", type=int, default=200)
    p.add_argument("--first", type=int, default=1000, help="seed of the first clip")
    p.add_argument("--size", type=int, default=64, help="width and height")
    p.add_argument("--steps", type=int, default=0, help="0: the default")
    p.add_argument("--guidance", type=float, default=0, help="0: the default")
    p.add_argument("--batch", type=int, default=4, help="diffusers: clips at a time")
    p.add_argument("--bf16", action="store_true", help="diffusers: bfloat16 autocast, for quick looks")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--keep", help="keep the frames in this folder")
    p.add_argument("--sheet", help="write a contact sheet (PNG) of the first 16 clips")
    p.add_argument("--json", help="write everything measured to this file")
    p.add_argument("--verbose", action="store_true")
    argv = sys.argv[1:]
    extra = argv[argv.index("--") + 1:] if "--" in argv else []
    args = p.parse_args(argv[:argv.index("--")] if "--" in argv else argv)
    args.extra = extra
    ids = list(range(args.first, args.first + args.clips))
    source = (from_truth if args.truth else from_folder if args.clips_dir else from_vidilate if args.vidilate
              else from_diffusers if args.diffusers else None)
    if source is None:
        p.error("one of --vidilate, --diffusers, --truth, --clips-dir is needed")
    start, rows, sheet = time.time(), [], []
    for i, frames in source(args, ids):
        spec = spec_of(i)
        r = judge(frames, spec)
        r.update(seed=i, prompt=data.caption(spec), spec=spec)
        rows.append(r)
        if len(sheet) < 16:
            sheet.append(np.concatenate(list(frames), 1))
        if args.verbose:
            print(i, r["prompt"], {k: r[k] for k in KEYS}, {k: v if isinstance(v, str) else round(v, 2) for k, v in r["got"].items()}, flush=True)
    if args.sheet:
        from PIL import Image
        Image.fromarray((np.clip(np.concatenate(sheet, 0), 0, 1) * 255 + 0.5).astype(np.uint8)).save(args.sheet)
    mean = {k: float(np.mean([r[k] for r in rows])) for k in KEYS + ("area", "objects")}
    print("| clips | " + " | ".join(KEYS) + " | area | objects a frame |")
    print("| --- " * (len(KEYS) + 3) + "|")
    print(f"| {len(rows)} | " + " | ".join(f"{mean[k]:.3f}" for k in KEYS) + f" | {mean['area']:.3f} | {mean['objects']:.2f} |")
    print("\n| motion | clips | right |\n| --- | --- | --- |")
    for m in data.MOTIONS:
        part = [r["motion"] for r in rows if r["spec"][2] == m]
        if part:
            print(f"| {m} | {len(part)} | {np.mean(part):.2f} |")
    print("\n| shape | clips | right |\n| --- | --- | --- |")
    for s in data.SHAPES:
        part = [r["shape"] for r in rows if r["spec"][1] == s]
        if part:
            print(f"| {s} | {len(part)} | {np.mean(part):.2f} |")
    print(f"\n{time.time() - start:.0f} s")
    if args.json:
        with open(args.json, "w") as f:
            json.dump({"model": args.model, "size": args.size, "steps": args.steps, "guidance": args.guidance,
                       "extra": args.extra, "mean": mean, "clips": rows}, f, indent=1, default=lambda o: np.asarray(o).tolist())


if __name__ == "__main__":
    main()

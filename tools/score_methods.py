#!/usr/bin/env python3
"""Compares methods for sizes beyond training on the shapes model: clips judged by tools/score_shapes.py's judge.

    python3 tools/score_methods.py --out scores.jsonl                      # everything that the README's table holds
    python3 tools/score_methods.py --out scores.jsonl --shard 1/4 &        # a quarter of it, as often as you like
    python3 tools/score_methods.py --out scores.jsonl --table              # the table of what is there
    python3 tools/score_methods.py --out sweep.jsonl --sizes 128x128 --methods direct,sweep/*.json --clips 20

A method is a name of `render --method` or a settings file.  Clip i (i from --first) has the prompt and the seed that
score_shapes.py gives it, whatever the size and method.  Each judged clip is one line of --out, written at once; clips
that are there already are not rendered again, so that a run may be stopped, split (--shard I/N, by clip) and repeated,
several processes writing to one file.

What is measured of a clip: one object in every frame; right colour, shape, motion (as score_shapes.py); the object's
share of the picture, and the distance that it travels (in half widths, plus the change of ln radius); flicker: the mean
absolute difference of successive frames after the object of the second is moved and scaled onto that of the first;
seconds for the whole `vidilate render`, of which the table gives the least, since others use the machine too.  It gives
area, distance and flicker relative to direct at the model's own size, of clips with one object.
"""
import argparse
import collections
import glob
import json
import os
import subprocess
import tempfile
import time

import numpy as np

import score_shapes
import shapes_data as data

SIZES = "64x64,96x96,128x128,192x192,256x256,128x64,96x160"
METHODS = "direct,redilate,disperse,ndcfg,attn-scale,freeu,low-res,auto"


# --- what the judge does not measure ------------------------------------------------------------------------

def sample(frame, x, y):
    """Bilinear values of a frame at pixel positions x, y (centres at whole numbers), edges repeated."""
    h, w, _ = frame.shape
    x, y = np.clip(x, 0, w - 1), np.clip(y, 0, h - 1)
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    x1, y1 = np.minimum(x0 + 1, w - 1), np.minimum(y0 + 1, h - 1)
    u, v = (x - x0)[..., None], (y - y0)[..., None]
    return (frame[y0, x0] * (1 - u) + frame[y0, x1] * u) * (1 - v) + (frame[y1, x0] * (1 - u) + frame[y1, x1] * u) * v


def still_difference(a, b, ma, mb):
    """Mean absolute difference of two frames once the object of b is put onto that of a."""
    if "area" not in ma or "area" not in mb:
        return float(np.abs(a - b).mean())
    h, w, _ = a.shape
    gy, gx = np.mgrid[0:h, 0:w].astype(float)
    place = lambda m: ((m["x"] + 1) / 2 * w - 0.5, (m["y"] + 1) / 2 * h - 0.5, 1.5 * np.sqrt(m["area"] * h * w / np.pi))
    (ax, ay, ar), (bx, by, br) = place(ma), place(mb)
    k = br / ar
    moved = np.abs(a - sample(b, bx + (gx - ax) * k, by + (gy - ay) * k)).mean(-1)
    near_a, near_b = np.hypot(gx - ax, gy - ay) < ar, np.hypot(gx - bx, gy - by) < br
    # the object, wherever it is; the ground where it is in neither frame; what it uncovers is left out
    total, count = moved[near_a].sum(), near_a.sum()
    ground = ~(near_a | near_b)
    total, count = total + np.abs(a - b).mean(-1)[ground].sum(), count + ground.sum()
    return float(total / max(1, count))


def score(frames, spec):
    ms = [score_shapes.measure(f) for f in frames]
    r = score_shapes.judge_measured(ms, spec)
    got = r["got"]
    return {**{k: bool(r[k]) for k in score_shapes.KEYS}, "area": r["area"], "objects": r["objects"],
            "distance": float(np.hypot(got.get("dx", 0), got.get("dy", 0)) + abs(got.get("dr", 0))),
            "flicker": float(np.mean([still_difference(*p) for p in zip(frames, frames[1:], ms, ms[1:])]))}


# --- rendering ---------------------------------------------------------------------------------------------

def render(args, size, method, seed, folder):
    spec = score_shapes.spec_of(seed)
    width, height = size.split("x")
    how = ["--settings", method] if method.endswith(".json") or method.endswith(".txt") else ["--method", method]
    cmd = [args.vidilate, "render", "--model", args.model, "--prompt", data.caption(spec), "--seed", str(seed), "--width", width,
           "--height", height, "--steps", str(args.steps), "-o", os.path.join(folder, "%04d.png"), *how, *args.extra]
    start = time.time()
    subprocess.run(cmd, check=True, stdout=subprocess.DEVNULL)
    return score_shapes.read_frames(folder), time.time() - start, spec


def run(args, tasks):
    for n, (size, method, seed) in enumerate(tasks):
        with tempfile.TemporaryDirectory() as folder:
            frames, seconds, spec = render(args, size, method, seed, folder)
        line = {"size": size, "method": method, "seed": seed, "steps": args.steps, "motion asked": spec[2],
                "seconds": round(seconds, 2), **score(frames, spec)}
        with open(args.out, "a") as f:             # one write a line: processes may share the file
            f.write(json.dumps(line) + "\n")
        if args.verbose:
            print(f"{n + 1}/{len(tasks)}", line, flush=True)


# --- the table ---------------------------------------------------------------------------------------------

def table(rows, sizes, methods):
    groups = collections.defaultdict(list)
    for r in rows:
        groups[r["size"], r["method"]].append(r)
    mean = lambda part, k: float(np.mean([r[k] for r in part])) if part else float("nan")
    base = groups.get((data_size(rows, sizes), "direct"), [])
    print("| size | method | clips | one object | colour | shape | motion | all four | area | distance | flicker | seconds |")
    print("| --- " * 12 + "|")
    for size in sizes:
        for method in methods:
            part = groups.get((size, method))
            if not part:
                continue
            rates = " | ".join(f"{mean(part, k):.2f}" for k in score_shapes.KEYS)
            # of clips with one object: of fragments these say nothing
            good = [r for r in part if r["one object"]]
            own = [r for r in base if r["one object"]]
            ratios = " | ".join(f"{mean(good, k) / mean(own, k):.2f}" for k in ("area", "distance", "flicker")).replace("nan", "-")
            seconds = min(r["seconds"] for r in part)
            name = os.path.splitext(os.path.basename(method))[0]
            print(f"| {size} | {name} | {len(part)} | {rates} | {ratios} | {seconds:.1f} |")


def data_size(rows, sizes):
    """The model's own size: the smallest that was measured."""
    seen = {r["size"] for r in rows}
    return min(seen & set(sizes) or seen or set(sizes), key=lambda s: np.prod([int(v) for v in s.split("x")]))


def read_rows(path, steps):
    if not os.path.exists(path):
        return []
    with open(path) as f:
        rows = [json.loads(line) for line in f if line.strip()]
    return [r for r in rows if r["steps"] == steps]


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0], epilog="arguments after -- go to vidilate render")
    p.add_argument("--out", required=True, help="a JSONL file that grows")
    p.add_argument("--vidilate", default="build/vidilate")
    p.add_argument("--model", default="models/shapes")
    p.add_argument("--sizes", default=SIZES, help=f"WxH,... ({SIZES})")
    p.add_argument("--methods", default=METHODS, help=f"names and settings files ({METHODS})")
    p.add_argument("--clips", type=int, default=100)
    p.add_argument("--first", type=int, default=3000, help="seed of the first clip; below 2000 is for tuning")
    p.add_argument("--steps", type=int, default=50)
    p.add_argument("--shard", default="0/1", help="I/N: only clips whose number is I modulo N")
    p.add_argument("--table", action="store_true", help="render nothing")
    p.add_argument("--verbose", action="store_true")
    p.add_argument("extra", nargs="*")
    args = p.parse_args()
    sizes = args.sizes.split(",")
    methods = [m for pattern in args.methods.split(",") for m in (sorted(glob.glob(pattern)) if "*" in pattern else [pattern])]
    if not args.table:
        shard, shards = map(int, args.shard.split("/"))
        done = {(r["size"], r["method"], r["seed"]) for r in read_rows(args.out, args.steps)}
        tasks = [(s, m, i) for i in range(args.first, args.first + args.clips) if i % shards == shard
                 for s in sizes for m in methods if (s, m, i) not in done]
        run(args, tasks)
    table(read_rows(args.out, args.steps), sizes, methods)


if __name__ == "__main__":
    main()

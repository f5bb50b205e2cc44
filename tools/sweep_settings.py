#!/usr/bin/env python3
"""Makes variants of a settings file, for tuning a model's own row of configs/.

    python3 tools/sweep_settings.py configs/shapes-128x128.json sweep/ --tau 10,20,30,40 --without-each
    python3 tools/score_methods.py --out sweep.jsonl --sizes 128x128 --methods 'direct,sweep/*.json' --first 100 --clips 20 --steps 25

Windows in the files are written for --steps (those of the render; score_methods.py's must be the same).  --tau tries
other windows of re-dilation, --factor other factors for all layers, --without-each leaves out one name at a time,
--with NAME,... adds layers, --progressive tries the falling factors.  Each kind is varied by itself, from the file.
"""
import argparse
import copy
import json
import os


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("settings")
    p.add_argument("folder")
    p.add_argument("--steps", type=int, default=25)
    p.add_argument("--tau", default="", help="windows in the file's own steps: 10,20,30")
    p.add_argument("--factor", default="", help="factors for all layers: 1.5,2")
    p.add_argument("--with", dest="added", default="", help="names to add one at a time, with the largest factor")
    p.add_argument("--without-each", action="store_true")
    p.add_argument("--progressive", action="store_true")
    args = p.parse_args()
    with open(args.settings) as f:
        base = json.load(f)
    own_steps = base.pop("for", {}).get("steps", 50)
    base.pop("about", None)
    variants = {"base": base}

    def vary(name, **members):
        variants[name] = {**copy.deepcopy(base), **members}

    for tau in filter(None, args.tau.split(",")):
        vary(f"tau-{tau}", dilate_tau=int(tau))
    for factor in filter(None, args.factor.split(",")):
        vary(f"factor-{factor}", dilate={k: float(factor) for k in base["dilate"]})
    if args.without_each:
        for name in base["dilate"]:
            vary(f"without-{name}", dilate={k: v for k, v in base["dilate"].items() if k != name})
    largest = max(base["dilate"].values(), key=lambda v: max(v) if isinstance(v, list) else v)
    for name in filter(None, args.added.split(",")):
        vary(f"with-{name}", dilate={**base["dilate"], name: largest})
    if args.progressive:
        vary("progressive", progressive=True)
    os.makedirs(args.folder, exist_ok=True)
    for name, v in variants.items():
        for key in v:
            if key.endswith("_tau"):
                v[key] = round(v[key] * args.steps / own_steps)
        with open(os.path.join(args.folder, name + ".json"), "w") as f:
            json.dump(v, f, indent=1)
    print(f"{len(variants)} files in {args.folder}")


if __name__ == "__main__":
    main()

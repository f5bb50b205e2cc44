#!/usr/bin/env python3
"""Copies parity data (a manifest, its cases and models) into tests/golden, small enough for the repository.

    tools/pack_golden.py SOURCE tests/golden

The networks' weights are draws of torch.randn: one CPU generator for each network, parameters in the
order of their names (an autoencoder's old attention names count as the new ones), each times a gain,
over the square root of its fan-in if it is a matrix or a kernel, plus 1 if it scales a norm. So a
network is kept as its seed and this list, in drawn.json, with a SHA-256 of all values; what was not
drawn (position tables) lies in rest.safetensors beside it. Every value is checked here against the
source. tests/draw_golden draws the files again when the tests are built.

The seeds are not in the source: they were solved from the weights, from each of which the bits of
mt19937's output can be read, which are linear in its state. A network that is not in SEEDS, or does
not come out equal, is copied whole.
"""
import argparse
import hashlib
import json
import math
import pathlib
import re
import shutil

import torch
from safetensors.torch import load_file, save_file

SEEDS = {
    "i-sd15/text_encoder": 2240505447,
    "i-sd15/unet": 2057168301,
    "i-sd15/vae": 1383838923,
    "i-sd21/unet": 2656992215,
    "i-sdxl/text_encoder_2": 3615557011,
    "i-sdxl/unet": 2913596057,
    "i-sdxl/vae": 663675620,
    "t2v-animatediff/motion_adapter": 2438445041,
    "t2v-motion/unet": 977003305,
    "t2v-ms/text_encoder": 209859837,
    "t2v-ms/unet": 1698407779,
    "t2v-ms/vae": 2355469218,
}
NEW_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def draw_order(name: str) -> str:
    return re.sub(r"\b(query|key|value|proj_attn)\b", lambda m: NEW_NAMES[m[1]], name)


def fit(name: str, tensor: torch.Tensor, z: torch.Tensor) -> dict | None:
    """How `tensor` was made of the draw z, or None."""
    offset = 1 if tensor.dim() == 1 and name.endswith("weight") else 0
    scale = float(((tensor.double() - offset) * z.double()).sum() / z.double().square().sum())
    fans = [tensor[0].numel(), 1] if tensor.dim() > 1 else [1]
    for fan in fans:
        gain = round(scale * math.sqrt(fan), 3)
        if torch.equal((z * gain / math.sqrt(fan) + offset).to(tensor.dtype), tensor):
            return {"name": name, "shape": list(tensor.shape), "gain": gain, "fan": fan, "offset": offset}
    return None


def pack(source: pathlib.Path, target: pathlib.Path, seed: int) -> bool:
    """Writes target/drawn.json and rest.safetensors; False if the weights are not such draws."""
    tensors = load_file(source)
    generator = torch.Generator("cpu").manual_seed(seed)
    digest, drawn, rest, dtypes = hashlib.sha256(), [], {}, set()
    for name in sorted(tensors, key=draw_order):
        tensor = tensors[name]
        if name.endswith((".pe", "position_ids")):
            rest[name] = tensor
            continue
        entry = fit(name, tensor, torch.randn(tensor.shape, generator=generator))
        if entry is None:
            print(f"{source}: {name} is not drawn from seed {seed}")
            return False
        drawn.append(entry)
        dtypes.add(str(tensor.dtype))
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    if len(dtypes) != 1:
        return False
    dtype = {"torch.float32": "F32", "torch.float16": "F16", "torch.bfloat16": "BF16"}[dtypes.pop()]
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in drawn)
    (target / "drawn.json").write_text(f'{{"file": "{source.name}", "seed": {seed}, "dtype": "{dtype}",\n'
                                       f'"sha256": "{digest.hexdigest()}",\n"tensors": [\n{lines}\n]}}\n')
    if rest:
        save_file(rest, target / "rest.safetensors")
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("target", type=pathlib.Path)
    args = parser.parse_args()
    args.target.mkdir(parents=True, exist_ok=True)
    shutil.copy(args.source / "manifest.json", args.target)
    shutil.copytree(args.source / "cases", args.target / "cases", dirs_exist_ok=True)
    for file in sorted(args.source.glob("*/*/*")) + sorted(args.source.glob("*/*.json")):
        relative = file.relative_to(args.source)
        if relative.parts[0] == "cases":
            continue
        target = args.target / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        seed = SEEDS.get(str(relative.parent)) if file.suffix == ".safetensors" else None
        if seed is None or not pack(file, target.parent, seed):
            shutil.copy(file, target)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Writes tests/core/golden_randn.safetensors: draws of torch.randn that tests/core/test_rng.c must repeat.

Each tensor "SEED/SIZE,SIZE,..." holds consecutive draws from one CPU generator, one after another.
Run on x86 with AVX2, whose bits the program follows.  usage: make_core_golden.py OUTPUT.safetensors
"""
import sys

import torch
from safetensors.torch import save_file

SEEDS = [0, 1, 42, 2**32 + 5, 2**53 - 1, 2**63 + 12345]
DRAWS = [[1], [7], [15], [16], [17], [100], [20, 5, 33], [5, 3, 18, 1, 2, 16, 7]]
LONG = {(42, (4 * 8 * 16 * 16,)): slice(-64, None)}  # only its end is kept, past many twists


def draw(seed, sizes):
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.cat([torch.randn(n, generator=generator) for n in sizes])


def main():
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        sys.exit("make_core_golden.py: run this on a CPU with AVX2")
    tensors = {f"{s}/{','.join(map(str, d))}": draw(s, d) for s in SEEDS for d in DRAWS}
    for (seed, sizes), part in LONG.items():
        tensors[f"{seed}/{','.join(map(str, sizes))}"] = draw(seed, sizes)[part].clone()
    save_file(tensors, sys.argv[1], metadata={"made_by": "tools/make_core_golden.py", "torch": torch.__version__})


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Compares the C UNet with diffusers on models that are not among the golden data.

    tools/check_unet.py BUILD_DIR [UNET_DIR ...]

Without UNET_DIR: random UNet3DConditionModels and UNet2DConditionModels of many shapes. Needs the target unet_predict, torch,
diffusers and safetensors. Exits 1 if a float32 difference is above 10 times the distance of
diffusers' own float32 run from its float64 run (the rule of the golden data)."""
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from diffusers import UNet2DConditionModel, UNet3DConditionModel
from safetensors.torch import load_file, save_file

SHAPES = [  # widths, head size, groups, layers, text width, levels with attention, (B, F, H, W)
    ((16, 24), 8, 8, 1, 16, (1, 1), (1, 3, 8, 6)),
    ((32, 48, 96), 16, 16, 3, 24, (1, 1, 0), (2, 2, 8, 12)),
    ((24, 24, 48), 24, 12, 2, 40, (0, 0, 0), (1, 2, 7, 9)),
    ((64, 128), 64, 32, 1, 64, (0, 1), (1, 5, 10, 6)),
    ((64, 32, 64, 96), 32, 8, 1, 8, (1, 0, 1, 0), (1, 1, 13, 5)),
    ((16, 24), 8, 8, 1, 16, (1, 0), (1, 9, 32, 32)),
    ((40,), 40, 4, 2, 16, (1,), (1, 4, 3, 5)),
    ((48, 80, 112, 16, 32), 16, 16, 1, 20, (0, 1, 0, 1, 0), (2, 3, 19, 33)),
]


SHAPES_2D = [  # widths, heads, groups, layers, text width, levels with attention, transformers, linear, more, (B, 1, H, W)
    ((16, 24), 2, 8, 1, 16, (1, 1), 1, False, {}, (1, 1, 8, 6)),
    ((32, 64, 64), (1, 4, 8), 16, 2, 24, (1, 1, 0), (1, 2, 3), True, {}, (2, 1, 7, 13)),
    ((16, 32, 48), (2, 2, 3), 8, 2, 40, (0, 1, 1), (1, 2, 5), True, "text_time", (2, 1, 16, 24)),
    ((32, 32, 64, 64), 8, 32, 2, 20, (1, 1, 1, 0), 1, False, {}, (1, 1, 19, 33)),
    ((24, 48), 4, 8, 2, 16, (1, 0), 1, False, {"mid_block_type": None}, (1, 1, 10, 10)),
    ((24, 48), 4, 8, 1, 16, (0, 1), 1, True, {"mid_block_type": "UNetMidBlock2D"}, (1, 1, 9, 5)),
]


def make_2d(shape, seed):
    widths, heads, groups, layers, text, attend, depth, linear, more, _ = shape
    if more == "text_time":
        more = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8,
                "projection_class_embeddings_input_dim": 60}
    torch.manual_seed(seed)
    return randomise(UNet2DConditionModel(
        block_out_channels=widths, attention_head_dim=heads, norm_num_groups=groups,
        layers_per_block=layers, cross_attention_dim=text, sample_size=8, use_linear_projection=linear,
        transformer_layers_per_block=depth,
        down_block_types=["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attend],
        up_block_types=["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attend)], **more))


def make(shape, seed):
    widths, head, groups, layers, text, attend, _ = shape
    torch.manual_seed(seed)
    return randomise(UNet3DConditionModel(
        block_out_channels=widths, attention_head_dim=head, norm_num_groups=groups,
        layers_per_block=layers, cross_attention_dim=text, sample_size=8,
        down_block_types=["CrossAttnDownBlock3D" if a else "DownBlock3D" for a in attend],
        up_block_types=["CrossAttnUpBlock3D" if a else "UpBlock3D" for a in reversed(attend)]))


def randomise(model):
    for p in model.parameters():  # the layers that start at zero, and norms that are not 1 and 0
        torch.nn.init.normal_(p, std=0.5 / max(1, p[0].numel()) ** 0.5 if p.dim() > 1 else 0.2)
    for m in model.modules():
        if isinstance(m, (torch.nn.GroupNorm, torch.nn.LayerNorm)):
            torch.nn.init.normal_(m.weight, 1.0, 0.2)
    return model


@torch.no_grad()
def check(name, folder, size, predict, seed):
    config = json.loads((pathlib.Path(folder) / "config.json").read_text())
    image = config["_class_name"] == "UNet2DConditionModel"
    model = (UNet2DConditionModel if image else UNet3DConditionModel).from_pretrained(
        folder, torch_dtype=torch.float32).eval()
    b, f, h, w = size
    g = torch.Generator().manual_seed(seed)
    sample = torch.randn(b, model.config.in_channels, f, h, w, generator=g)
    context = torch.randn(b, 11, model.config.cross_attention_dim, generator=g)
    timestep = torch.tensor([500.0, 37.0][:b])
    extra = {}
    if image and model.config.addition_embed_type:
        width = model.config.projection_class_embeddings_input_dim - 6 * model.config.addition_time_embed_dim
        extra = {"text_embeds": torch.randn(b, width, generator=g),
                 "time_ids": torch.tensor([[64.0, 96, 0, 8, 32, 48]] * b)}

    def run(dtype):
        x = sample[:, :, 0] if image else sample
        more = {"added_cond_kwargs": {k: v.to(dtype) for k, v in extra.items()}} if extra else {}
        y = model.to(dtype)(x.to(dtype), timestep, context.to(dtype), **more).sample
        return y[:, :, None] if image else y

    exact, f32, bf16 = run(torch.float64), run(torch.float32), run(torch.bfloat16)

    def error(y):
        d = y.double() - exact
        return d.abs().max().item(), d.square().mean().sqrt().item()

    bad = False
    with tempfile.TemporaryDirectory() as temp:
        inputs, output = f"{temp}/in.safetensors", f"{temp}/out.safetensors"
        save_file({"sample": sample, "context": context, "timestep": timestep, **extra}, inputs)
        for dtype, library in (("f32", error(f32)), ("bf16", error(bf16))):
            subprocess.run([predict, folder, inputs, output, dtype, "2"], check=True)
            worst, rms = error(load_file(output)["sample"])
            limit = max(10 * library[0], 2e-6 * max(1, exact.abs().max().item()))
            fails = dtype == "f32" and not worst <= limit
            bad |= fails
            print(f"{'FAIL' if fails else 'ok  '} {name} {dtype}: error max {worst:.3g} rms {rms:.3g}"
                  f" (diffusers {library[0]:.3g}, {library[1]:.3g})", flush=True)
    return bad


def main():
    predict = str(pathlib.Path(sys.argv[1]) / "tests/unet3d/unet_predict")
    bad = False
    for folder in sys.argv[2:]:
        bad |= check(folder, folder, (2, 4, 16, 16), predict, 7)
    shapes = [(make, s) for s in SHAPES] + [(make_2d, s) for s in SHAPES_2D]
    for i, (maker, shape) in enumerate(shapes if len(sys.argv) == 2 else []):
        with tempfile.TemporaryDirectory() as temp:
            maker(shape, i).save_pretrained(temp)
            bad |= check(str(shape), temp, shape[-1], predict, i)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

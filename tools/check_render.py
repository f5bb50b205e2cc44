#!/usr/bin/env python3
"""Renders one prompt with diffusers and with vidilate (float32, same seed) and compares the frames.

    tools/check_render.py build/vidilate models/shapes [--steps 10] [--eta 1] [--scheduler EulerDiscreteScheduler=euler]
    tools/check_render.py build/vidilate --tiny sdxl [--save plain|fp16|sharded]

--tiny makes a small random model with diffusers' own classes and saves it with save_pretrained.
Needs torch, diffusers, transformers, numpy and pillow. Expect bytes that differ by at most 1, and few of them.
"""
import argparse
import inspect
import pathlib
import subprocess
import tempfile

import diffusers
import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image

TOKENIZER = pathlib.Path(__file__).parent.parent / "tests/golden/t2v-ms/tokenizer"


def wake(module: torch.nn.Module) -> torch.nn.Module:
    """The classes' own weights are so small that the networks would do almost nothing."""
    for p in module.parameters():
        torch.nn.init.normal_(p, std=1.0 / max(1, p[0].numel()) ** 0.5 if p.dim() > 1 else 0.2)
    for m in module.modules():
        if isinstance(m, (torch.nn.GroupNorm, torch.nn.LayerNorm)):
            torch.nn.init.normal_(m.weight, 1.0, 0.2)
    return module.eval()


def make_tiny(kind: str, save: str, folder: str) -> None:
    from diffusers import (AutoencoderKL, DDIMScheduler, EulerDiscreteScheduler, PNDMScheduler,
                           StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel)
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    torch.manual_seed(1)
    xl = kind == "sdxl"
    text = dict(hidden_size=16, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4)
    encoder = wake(CLIPTextModel(CLIPTextConfig(hidden_act="gelu" if kind == "sd21" else "quick_gelu", **text)))
    vae = wake(AutoencoderKL(block_out_channels=(8, 8, 16, 16), norm_num_groups=4, sample_size=64,
                             down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
                             scaling_factor=0.13025 if xl else 0.18215))
    shape = dict(block_out_channels=(16, 24, 32, 32), down_block_types=["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
                 up_block_types=["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3, cross_attention_dim=16, attention_head_dim=4)
    if kind == "sd21":
        shape |= dict(attention_head_dim=[2, 3, 4, 4], use_linear_projection=True, upcast_attention=True)
    if xl:
        shape = dict(block_out_channels=(16, 24, 32), cross_attention_dim=32, attention_head_dim=[1, 3, 4],
                     down_block_types=["DownBlock2D"] + ["CrossAttnDownBlock2D"] * 2, use_linear_projection=True,
                     up_block_types=["CrossAttnUpBlock2D"] * 2 + ["UpBlock2D"], transformer_layers_per_block=[1, 2, 3],
                     addition_embed_type="text_time", addition_time_embed_dim=8,
                     projection_class_embeddings_input_dim=16 + 6 * 8)
    unet = wake(UNet2DConditionModel(norm_num_groups=8, sample_size=8, **shape))
    betas = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER)
    parts = dict(vae=vae, text_encoder=encoder, tokenizer=tokenizer, unet=unet)
    if xl:
        second = wake(CLIPTextModelWithProjection(CLIPTextConfig(hidden_act="gelu", projection_dim=16, **text)))
        pipe = StableDiffusionXLPipeline(text_encoder_2=second, tokenizer_2=tokenizer,
                                         scheduler=EulerDiscreteScheduler(timestep_spacing="leading", **betas), **parts)
    else:
        scheduler = (DDIMScheduler(prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False, **betas)
                     if kind == "sd21" else PNDMScheduler(skip_prk_steps=True, **betas))
        pipe = StableDiffusionPipeline(scheduler=scheduler, safety_checker=None, feature_extractor=None,
                                       requires_safety_checker=False, **parts)
    if save == "fp16":
        pipe.to(dtype=torch.float16)
    pipe.save_pretrained(folder, safe_serialization=True, variant="fp16" if save == "fp16" else None,
                         **({"max_shard_size": "400KB"} if save == "sharded" else {}))


def compare(args: argparse.Namespace, model: str) -> None:
    pipe = DiffusionPipeline.from_pretrained(
        model, torch_dtype=torch.float32, variant="fp16" if args.tiny and args.save == "fp16" else None)
    command = [args.vidilate, "render", "--model", model, "--prompt", args.prompt, "--dtype", args.dtype,
               "--method", "direct"]
    for name in ("steps", "guidance", "eta", "seed", "width", "height"):
        command += [f"--{name}", str(getattr(args, name))]
    video = "num_frames" in inspect.signature(pipe.__call__).parameters
    command += ["--frames", str(args.frames if video else 1)]
    if args.negative_prompt is not None:
        command += ["--negative-prompt", args.negative_prompt]
    if args.scheduler:
        theirs, ours = args.scheduler.split("=")
        pipe.scheduler = getattr(diffusers, theirs).from_config(pipe.scheduler.config)
        command += ["--scheduler", ours]
    result = pipe(args.prompt, negative_prompt=args.negative_prompt, width=args.width, height=args.height,
                  num_inference_steps=args.steps, guidance_scale=args.guidance, eta=args.eta,
                  generator=torch.Generator("cpu").manual_seed(args.seed), output_type="np",
                  **({"num_frames": args.frames} if video else {}))
    expected = np.round((result.frames[0] if video else result.images) * 255).astype(int)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(command + ["-o", f"{folder}/%04d.png"], check=True, stdout=subprocess.DEVNULL)
        files = sorted(pathlib.Path(folder).glob("*.png"))
        got = np.stack([np.asarray(Image.open(f)).astype(int) for f in files])
    difference = np.abs(got - expected)
    print(f"{difference.size} bytes: {np.count_nonzero(difference)} differ, by {difference.max()} at most")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vidilate")
    parser.add_argument("model", nargs="?")
    parser.add_argument("--tiny", choices=("sd15", "sd21", "sdxl"))
    parser.add_argument("--save", choices=("plain", "fp16", "sharded"), default="plain")
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
    if (args.model is None) == (args.tiny is None):
        parser.error("give a model's folder or --tiny")
    with tempfile.TemporaryDirectory() as folder:
        if args.tiny:
            make_tiny(args.tiny, args.save, folder)
        compare(args, args.model or folder)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Trains the small text-to-video model in models/shapes, on a processor.

The clips and captions are made on the fly (shapes_data.py).  The phases, in the order they are meant to run; each
keeps a checkpoint in --work, and `words` and `unet` with the same --work carry on from one another:

  vae     with --init: the decoder and post_quant_conv alone, so that the latents stay as they are; else all of it
  words   gives the words that decide motion and shape codes of their own in the text encoder (a minute)
  unet    UNet and text encoder: v-prediction on betas rescaled to zero terminal SNR; writes the whole folder

WHAT SHIPS.  The decoder comes from the first command below, the text encoder and the UNet from the others, one after
the other, all warm-started from the recipe's first weights (FIRST; 7,800 steps at batch 8), on two cores shared with
other work:

    python3 tools/train_shapes.py vae --init FIRST --out OUT --work work/vae --minutes 11 --lr 1e-3 --ema 0.99
    python3 tools/train_shapes.py words --init FIRST --out OUT --work work/unet
    torchrun --nproc_per_node 2 -- tools/train_shapes.py unet --init FIRST --vae OUT/vae --out OUT --work work/unet \
        --threads 1 --compile --lr 1.5e-3 --warmup 30 --probe 200 --path 1 --minutes 46
    torchrun --nproc_per_node 2 -- tools/train_shapes.py unet --init OUT --out OUT2 --work work/more \
        --threads 1 --compile --lr 8e-4 --warmup 50 --probe 0 --pure 0.1 --minutes 75
    torchrun --nproc_per_node 2 -- tools/train_shapes.py unet --init OUT2 --out OUT3 --work work/guided \
        --threads 1 --compile --lr 5e-4 --warmup 30 --probe 0 --pure 0.1 --strength 1.5 --drop 0.15 --ema 0.99 --minutes 24

and the last one once more, from OUT3, for 14 minutes.  Steps of 16 clips: 1,140, 3,050, 800, 600.  The decoder's 453 steps
brought the mean absolute error on held-out pictures (0..1) from 0.0179 to 0.0085 at 64x64 and from 0.0143 to 0.0060 at
128x128.  Between `words` and the first run lay some 430 steps at --lr 8e-4 without the path read-outs (--path 0), which
taught the frames' places and nothing of the direction; whether they are needed is not known.

On 200 held-out captions at 50 steps and guidance 7.5 (one object, colour, shape, motion, all four):

    FIRST with the new decoder   0.950 0.945 0.795 0.430 0.345
    OUT                          0.900 0.910 0.925 0.990 0.765
    OUT3                         1.000 0.990 0.985 0.985 0.960
    what ships                   1.000 0.985 1.000 0.995 0.980

WHY.  FIRST ignores the direction of motion in the caption: "left" and "right" leave its text encoder 0.08 apart, in vectors of length
7.7 (`words` gives them codes), and its last training step still shows the clip, so that it may read the motion from
the noise (the betas are rescaled to zero terminal SNR).  That was not enough: several runs of some hundred steps answered pure noise with a clip that stands still.  The path read-outs (Probes) and a learning rate of 1.5e-3 together
brought the direction within 150 steps; at 8e-4 and below nothing had moved.

OUT2 draws well at guidance 1.5 and badly at 7.5 (32 clips, all four right: 0.94 at 1, 1.00 at 1.5, 0.97 at 2, 0.91 at 3.5, 0.75 at
7.5: squares become stars, yellow leaves stains), as networks this small and this sure of the caption do.  So the last runs
shorten the way from no caption to the caption to 1.5 / 7.5 of it: guidance 7.5 then does what 1.5 did.  Their answers at other
guidance are weaker or stronger accordingly.

From scratch (no --init; not tried yet) the VAE comes first:

    python3 tools/train_shapes.py vae  --out vae0 --work work/vae0 --minutes 40 --lr 1e-3
    python3 tools/train_shapes.py unet --vae vae0/vae --out OUT --work work/unet0 --minutes 360 --compile

Needs torch, diffusers, transformers, tokenizers and numpy.  --compile needs a C++ compiler; it takes some minutes the
first time and gives 1.3x.  On glibc, MALLOC_MMAP_THRESHOLD_=2000000000 MALLOC_TRIM_THRESHOLD_=8000000000 in the
environment spares page faults.  A run given in --minutes follows the clock, so it does not repeat to the bit; --steps
follows the step count.
"""
import argparse
import copy
import json
import math
import os
import shutil
import time

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNet3DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import shapes_data as data

UNET = dict(sample_size=16, in_channels=4, out_channels=4, block_out_channels=(48, 80, 112), layers_per_block=1,
            down_block_types=("DownBlock3D", "CrossAttnDownBlock3D", "DownBlock3D"),
            up_block_types=("UpBlock3D", "CrossAttnUpBlock3D", "UpBlock3D"),
            norm_num_groups=16, cross_attention_dim=64, attention_head_dim=16)
TEXT = dict(vocab_size=598, hidden_size=64, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=16, projection_dim=64, hidden_act="gelu", bos_token_id=121, eos_token_id=122,
            pad_token_id=122)
VAE = dict(sample_size=64, block_out_channels=(32, 64, 64), layers_per_block=1, norm_num_groups=16,
           latent_channels=4, down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3)
# Zero terminal signal-to-noise ratio.  With plain scaled-linear betas the last training step still holds 7 % of
# the signal, enough to read an object's motion from; the model then takes the motion from the noise and ignores
# the caption.  With the betas rescaled, the last step is pure noise and only the caption can tell.
SCHEDULER = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                 clip_sample=False, set_alpha_to_one=True, steps_offset=1, prediction_type="v_prediction",
                 timestep_spacing="trailing", rescale_betas_zero_snr=True)
GUIDANCE = 7.5          # the program's default, and diffusers'


def half_state(module, ema=None):
    """A copy of the module in fp16, from the averaged weights when given."""
    m = copy.deepcopy(module)
    if ema is not None:
        with torch.no_grad():
            for p, e in zip(m.parameters(), ema):
                p.copy_(e)
    return m.half().eval()


def save(module, folder):
    """save_pretrained, less the path the weights were read from."""
    module.save_pretrained(folder)
    name = os.path.join(folder, "config.json")
    with open(name) as f:
        config = json.load(f)
    config.pop("_name_or_path", None)
    with open(name, "w") as f:
        json.dump(config, f, indent=2)
        f.write("\n")
    for f in os.listdir(folder):
        os.chmod(os.path.join(folder, f), 0o644)


class Workers:
    """The processes of a run started by torchrun (one thread each), or this one alone.

    One process a core beats one process with as many threads by a third, and suffers less from other work beside it.
    """

    def __init__(self):
        self.count, self.rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
        if self.count > 1:
            dist.init_process_group("gloo")

    def average_gradients(self, params):
        if self.count == 1:
            return
        flat = torch.cat([p.grad.flatten() if p.grad is not None else p.new_zeros(p.numel()) for p in params])
        dist.all_reduce(flat)
        flat /= self.count
        for p, g in zip(params, flat.split([p.numel() for p in params])):
            p.grad = g.view_as(p)

    def agree(self, value):
        """The first process's value."""
        if self.count == 1:
            return value
        box = torch.tensor([value], dtype=torch.float64)
        dist.broadcast(box, 0)
        return box.item()


def no_dropout(module):
    for m in module.modules():
        if isinstance(m, torch.nn.Dropout):
            m.p = 0.0


class Pool:
    """Encoded clips: a ring that starts full and takes a few new clips at every step.

    The encoder works on single frames, so a clip played backwards is a clip of the reversed motion for free.
    """

    def __init__(self, vae, size, seed, cache=None):
        self.vae, self.rng = vae, np.random.default_rng(seed)
        self.specs, self.latents, self.next = [None] * size, torch.zeros(size, 8, 4, 16, 16), 0
        self.where = {}
        if cache and os.path.exists(cache):
            old = torch.load(cache, weights_only=True)
            for s, l in zip(old["specs"][:size], old["latents"].float()):
                self.put(tuple(s), l)
        while None in self.specs:
            self.add(16)
        self.next = int(self.rng.integers(size))
        if cache:
            torch.save({"specs": [list(s) for s in self.specs], "latents": self.latents.half()}, cache)

    def put(self, spec, latents):
        k = self.next
        if self.specs[k]:
            self.where[self.specs[k]].remove(k)
        self.where.setdefault(spec, []).append(k)
        self.specs[k], self.latents[k] = spec, latents
        self.next = (k + 1) % len(self.specs)

    @torch.no_grad()
    def add(self, n):
        specs = [data.ALL[i] for i in self.rng.integers(len(data.ALL), size=n)]
        x = np.stack([data.clip(s, self.rng) for s in specs])
        x = torch.from_numpy(x).flatten(0, 1).permute(0, 3, 1, 2) * 2 - 1
        with torch.autocast("cpu", torch.bfloat16):
            z = self.vae.encode(x).latent_dist.mean.float() * self.vae.config.scaling_factor
        for s, l in zip(specs, z.view(n, 8, *z.shape[1:])):
            self.put(s, l)

    def mean(self, spec):
        """The mean clip of a caption: what a perfect model answers to pure noise."""
        c, s, m, b = spec
        parts = [self.latents[self.where.get(spec, [])], self.latents[self.where.get((c, s, data.REVERSED[m], b), [])].flip(1)]
        return torch.cat(parts).mean(0)

    def batch(self, pure, drop):
        """Captions, latents (n, 4, frames, h, w) and ways (n, 3; NaN without a caption); where `pure`, for steps of pure
        noise, the latents are the caption's mean clip.

        A share `drop` of the captions is empty.  The mean has the same optimum as single clips and no scatter.
        """
        words, z, ways = [], [], []
        for p in pure:
            i = int(self.rng.integers(len(self.specs)))
            (c, s, m, b), l = self.specs[i], self.latents[i]
            if self.rng.random() < 0.5:
                m, l = data.REVERSED[m], l.flip(0)
            spec = c, s, m, b
            ways.append(WAYS[m])
            if self.rng.random() < drop:
                words.append("")
                ways[-1] = (math.nan,) * 3
            elif p:
                words.append(data.caption(spec))
                l = self.mean(spec)
            else:
                words.append(data.vary(spec, self.rng))
            z.append(l)
        return words, torch.stack(z).transpose(1, 2), torch.tensor(ways, dtype=torch.float32)


def make_tokenizer(folder):
    """CLIP's files for a byte-complete BPE of the captions' words: 84 merges, 598 tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    words = sorted({w for s in data.ALL for w in data.caption(s, "a").split()})
    tok = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tok.pre_tokenizer = pre_tokenizers.Whitespace()
    tok.train_from_iterator(words, trainers.BpeTrainer(vocab_size=4096, min_frequency=0, end_of_word_suffix="</w>",
                                                       show_progress=False))
    merges = [" ".join(m) for m in json.loads(tok.to_str())["model"]["merges"]]
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    chars = [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    vocab = [chr(c) for c in range(ord("a"), ord("z") + 1)] + sorted({w[-1] + "</w>" for w in words})
    vocab += [m.replace(" ", "") for m in merges] + ["<|startoftext|>", "<|endoftext|>"]
    vocab += [x for c in chars for x in (c, c + "</w>") if x not in set(vocab)]
    os.makedirs(folder, exist_ok=True)
    end = "<|endoftext|>"
    special = {"bos_token": "<|startoftext|>", "eos_token": end, "unk_token": end, "pad_token": end}
    for name, value in (("vocab.json", {t: i for i, t in enumerate(vocab)}), ("special_tokens_map.json", special),
                        ("tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer", "model_max_length": 16,
                                                   **special, "do_lower_case": True})):
        with open(os.path.join(folder, name), "w") as f:
            json.dump(value, f, ensure_ascii=False)
    with open(os.path.join(folder, "merges.txt"), "w") as f:
        f.write("\n".join(["#version: 0.2", *merges, ""]))


def export(out, args, vae, unet, text, ema=None):
    """Writes the diffusers folder."""
    n = len(list(unet.parameters()))
    os.makedirs(out, exist_ok=True)
    save(half_state(unet, ema and ema[:n]), os.path.join(out, "unet"))
    save(half_state(text, ema and ema[n:]), os.path.join(out, "text_encoder"))
    save(half_state(vae), os.path.join(out, "vae"))
    DDIMScheduler(**SCHEDULER).save_pretrained(os.path.join(out, "scheduler"))
    tok = os.path.join(out, "tokenizer")
    os.makedirs(tok, exist_ok=True)
    for f in ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"):
        if os.path.exists(os.path.join(args.tokenizer, f)):
            shutil.copyfile(os.path.join(args.tokenizer, f), os.path.join(tok, f))
    index = {"_class_name": "TextToVideoSDPipeline", "scheduler": ["diffusers", "DDIMScheduler"],
             "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
             "unet": ["diffusers", "UNet3DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}
    with open(os.path.join(out, "model_index.json"), "w") as f:
        json.dump(index, f, indent=1)
    with open(os.path.join(out, "vidilate.json"), "w") as f:
        json.dump({"frames": 8, "fps": 8, "width": 64, "height": 64}, f)
        f.write("\n")


# The object's path: right-, down- and outward movement from the first frame to the last.
WAYS = {"moving left": (-1, 0, 0), "moving right": (1, 0, 0), "moving up": (0, -1, 0), "moving down": (0, 1, 0),
        "growing": (0, 0, 1), "shrinking": (0, 0, -1), "standing still": (0, 0, 0)}


class Probes(torch.nn.Module):
    """Linear read-outs, for the first steps, of what the features must carry so that motion follows the caption.

    Nothing tells this kind of UNet which frame is which but the zero padding of its temporal convolutions, and
    "left" and "right" differ only in the order of the frames.  So frame number, row and column are asked of every
    level, and of those that come after the text the object's path, frame by frame: the product of the caption's
    direction and the frame number, which the loss on pictures alone had not found in 400 steps and which this teaches
    in 100.  The read-outs are then thrown away.
    """

    def __init__(self, unet):
        super().__init__()
        blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
        convs = [c for b in blocks for c in b.temp_convs]
        self.heads = torch.nn.ModuleList(torch.nn.Linear(c.conv4[-1].out_channels, 3) for c in convs)
        self.seen = {}
        self.hooks = [c.register_forward_hook(lambda m, i, o, k=k: self.seen.__setitem__(k, o))
                      for k, c in enumerate(convs)]
        late = [*unet.down_blocks[1].temp_attentions, *unet.mid_block.temp_attentions,
                *(c for b in unet.up_blocks for c in b.temp_convs)]
        width = [m.proj_out.out_features if hasattr(m, "proj_out") else m.conv4[-1].out_channels for m in late]
        self.paths = torch.nn.ModuleList(torch.nn.Linear(c, 3) for c in width)
        self.hooks += [m.register_forward_hook(lambda m, i, o, k=k: self.seen.__setitem__(("path", k), o))
                       for k, m in enumerate(late)]

    def path_loss(self, ways):
        """Mean squared error of the paths (n, 3; NaN: not asked)."""
        asked = ~ways.isnan().any(1)
        if not asked.any():
            return ways.new_zeros(())
        want = (ways.view(-1, 1, 3) * torch.linspace(-1, 1, 8).view(1, 8, 1))[asked][:, :, None, None]
        total = 0.0
        for k, head in enumerate(self.paths):
            h = self.seen["path", k]
            h = (h[0] if isinstance(h, tuple) else getattr(h, "sample", h)).float()
            h = h.view(-1, 8, *h.shape[1:]).permute(0, 1, 3, 4, 2)[asked]
            total = total + ((head(F.layer_norm(h, h.shape[-1:])) - want) ** 2).mean()
        return total / len(self.paths)

    def loss(self):
        total = 0.0
        for k, head in enumerate(self.heads):
            h = self.seen[k].float()
            n, c, hh, ww = h.shape
            h = h.view(n // 8, 8, c, hh, ww).permute(0, 1, 3, 4, 2)
            h = F.layer_norm(h, (c,))
            f, y, x = (torch.linspace(-1, 1, m) for m in (8, hh, ww))
            want = torch.stack(torch.meshgrid(f, y, x, indexing="ij"), -1)
            total = total + ((head(h) - want) ** 2 * torch.tensor([2.0, 0.5, 0.5])).mean()
        return total / len(self.heads)

    def remove(self, opt):
        for h in self.hooks:
            h.remove()
        for p in opt.param_groups.pop()["params"]:
            opt.state.pop(p, None)


def load(args):
    vae = AutoencoderKL.from_pretrained(args.vae or os.path.join(args.init, "vae")).float().eval()
    if args.init:
        unet = UNet3DConditionModel.from_pretrained(os.path.join(args.init, "unet")).float()
        text = CLIPTextModel.from_pretrained(os.path.join(args.init, "text_encoder")).float()
    else:
        unet, text = UNet3DConditionModel(**UNET), CLIPTextModel(CLIPTextConfig(**TEXT))
    tokenizer = CLIPTokenizer.from_pretrained(args.tokenizer)
    unet.set_attn_processor(AttnProcessor())          # fused attention's backward is slow for 8-frame sequences
    no_dropout(unet)
    unet.train(), text.train()
    return vae, unet, text, tokenizer


def train_unet(args):
    workers = Workers()
    torch.manual_seed(args.seed)
    vae, unet, text, tokenizer = load(args)
    params = list(unet.parameters()) + list(text.parameters())
    ema = [p.detach().clone() for p in params]
    opt = torch.optim.AdamW(params, lr=args.lr, betas=(0.9, 0.99), weight_decay=0.01)
    abar = DDIMScheduler(**SCHEDULER).alphas_cumprod.clone()
    abar[-1] = 0.0
    step, spent, losses = 0, 0.0, []
    path = os.path.join(args.work, "unet.pt")
    if os.path.exists(path):
        state = torch.load(path, weights_only=True)
        step, spent = state["step"], state["spent"]
        with torch.no_grad():
            for p, e, a, b in zip(params, ema, state["params"], state["ema"]):
                p.copy_(a), e.copy_(b)
        if state["opt"]:
            opt.load_state_dict(state["opt"])
        print(f"resumed at step {step}, {spent / 60:.1f} min", flush=True)
    os.makedirs(args.work, exist_ok=True)
    t0 = time.time()
    torch.manual_seed(args.seed + step + 1000003 * workers.rank)
    pool = Pool(vae, args.pool, args.seed + step + 15485863 * workers.rank, os.path.join(args.work, f"pool{workers.rank}.pt"))
    rng = np.random.default_rng(args.seed + 7919 + step + 32452843 * workers.rank)
    print(f"pool of {args.pool} clips in {time.time() - t0:.0f} s", flush=True)

    def forward(noisy, t, ids):
        return unet(noisy, t, text(input_ids=ids).last_hidden_state).sample

    fast = torch.compile(forward) if args.compile else forward
    probes = Probes(unet) if step < args.probe else None
    if probes:
        opt.add_param_group({"params": list(probes.parameters())})
    last = saved = time.time()
    while True:
        spent = workers.agree(spent + time.time() - last)
        last = time.time()
        progress = step / args.steps if args.steps else spent / (60 * args.minutes)
        save_now = workers.agree(progress >= 1 or last - saved > 300)
        if save_now and workers.rank == 0:
            torch.save({"step": step, "spent": spent, "params": [p.detach() for p in params], "ema": ema,
                        "opt": opt.state_dict() if not probes else None}, path + ".new")
            os.replace(path + ".new", path)
            export(args.out, args, vae, unet, text, ema)
        if save_now:
            saved = time.time()
        if progress >= 1:
            break
        lr = args.lr * min(1, (step + 1) / args.warmup) * 0.5 * (1 + math.cos(math.pi * min(1, progress)))
        for g in opt.param_groups:
            g["lr"] = lr
        pool.add(args.fresh)
        # Noise levels: what the clip shows is decided at the noisy end, so that is where most of the batch goes at first;
        # later the share of pure noise falls to a twentieth, and the rest sharpens what is drawn.
        pure = max(0.05, args.pure * (1 - progress / 0.4))
        u = rng.random(args.batch)
        t = np.where(rng.random(args.batch) < pure, 999,
                     np.where(rng.random(args.batch) < args.high / (1 - pure), 999 - 249 * u ** 1.5, 1000 * u))
        t = torch.from_numpy(t.astype(np.int64))
        words, z, ways = pool.batch((t == 999).tolist(), args.drop)
        ids = tokenizer(words, padding="max_length", max_length=16, return_tensors="pt").input_ids
        a = abar[t].view(-1, 1, 1, 1, 1)
        noise = torch.randn(z.shape)
        noisy = a.sqrt() * z + (1 - a).sqrt() * noise
        target = a.sqrt() * noise - (1 - a).sqrt() * z
        if probes and step >= args.probe:
            probes.remove(opt)
            probes = None
        share = torch.ones(len(words), 1, 1, 1, 1)
        if args.strength:
            # Guidance goes GUIDANCE times the way from no caption to the caption: so that it arrives at `strength`
            # times the caption's clip, the way is made shorter.
            none = tokenizer([""] * len(words), padding="max_length", max_length=16, return_tensors="pt").input_ids
            with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16), torch.no_grad():
                plain = fast(noisy, t, none).float()
            captioned = torch.tensor([w != "" for w in words]).view(-1, 1, 1, 1, 1)
            share = torch.where(captioned, args.strength / GUIDANCE, share)
            target = torch.where(captioned, plain + share * (target - plain), target)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            v = (forward if probes else fast)(noisy, t, ids).float()
        # A v error is an error of the clean latents times 1 + snr; hold that factor under a limit.
        gain = 1 / (1 - a + 1e-4)
        weight = gain.clamp(max=args.snr_limit) / gain
        loss = (weight * ((v - target) / share) ** 2).mean()   # as large as in the guided clip
        losses.append(loss.item())
        if probes:
            place, route = probes.loss(), probes.path_loss(torch.where((t > 900)[:, None], ways, math.nan))
            loss = loss + 0.1 * place + args.path * route
        opt.zero_grad(set_to_none=True)
        loss.backward()
        workers.average_gradients(params)
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        step += 1
        d = min(args.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(ema, [p.detach() for p in params], 1 - d)
        if step % args.log == 0 and workers.rank == 0:
            print(f"step {step}  {(spent + time.time() - last) / 60:.1f} min  {np.mean(losses[-args.log:]):.4f} loss  "
                  f"{lr:.2e} lr  {(time.time() - last):.2f} s/step"
                  + (f"  {place.item():.3f} place  {route.item():.3f} path" if probes else ""), flush=True)


def train_words(args):
    """Gives the words that decide motion and shape codes of their own in the text encoder's output.

    In the recipe's first weights "left" and "right" leave the text encoder 0.08 apart, in vectors of length 7.7: the
    UNet cannot tell them, and gets no gradient to learn to.  The text encoder learns here to answer what it answered
    before plus a fixed code from the word on (it is causal), along directions the other words do not use; opposites
    get opposite signs.  Takes a minute.  Writes a checkpoint that `unet` with the same --work resumes.
    """
    torch.manual_seed(args.seed)
    _, unet, text, tokenizer = load(args)
    rng = np.random.default_rng(args.seed)
    path = os.path.join(args.work, "unet.pt")
    os.makedirs(args.work, exist_ok=True)
    params = list(unet.parameters()) + list(text.parameters())
    if os.path.exists(path):
        with torch.no_grad():
            for p, a in zip(params, torch.load(path, weights_only=True)["params"]):
                p.copy_(a)
    old = copy.deepcopy(text).eval()

    def tokens(words):
        return tokenizer(words, padding="max_length", max_length=16, return_tensors="pt").input_ids

    with torch.no_grad():
        x = old(input_ids=tokens([data.caption(s) for s in data.ALL])).last_hidden_state.flatten(0, 1)
    x = x - x.mean(0)
    e = torch.linalg.eigh(x.T @ x)[1].T[1:9] * 3.5    # the very lowest is what the last layer norm cannot say
    codes = {"left": e[0] + e[3] / 2, "right": e[3] / 2 - e[0], "up": e[1] + e[4] / 2, "down": e[4] / 2 - e[1],
             "growing": e[2] + e[5] / 2, "shrinking": e[5] / 2 - e[2], "still": e[6],
             "circle": 0.7 * e[7], "square": -0.7 * e[7]}
    codes = {tokenizer(w).input_ids[1]: c for w, c in codes.items()}
    table = text.get_input_embeddings().weight
    with torch.no_grad():
        for i, c in codes.items():
            table[i] += c / 5
    steps = args.steps or 1500
    opt = torch.optim.AdamW(text.parameters(), lr=2e-3, weight_decay=0.0)
    for k in range(steps):
        for g in opt.param_groups:
            g["lr"] = 2e-3 * min(1, (k + 1) / 30) * (1 - k / steps)
        ids = tokens([data.vary(data.ALL[i], rng) for i in rng.integers(len(data.ALL), size=48)] + ["", ""])
        with torch.no_grad():
            want = old(input_ids=ids).last_hidden_state.clone()
            for i, c in codes.items():
                want += ((ids == i).cumsum(1) > 0).float()[..., None] * c
        loss = (text(input_ids=ids).last_hidden_state - want).pow(2).sum(-1).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        if k % 150 == 149:
            print(f"step {k + 1}  {loss.item():.3f} squared distance to the wanted answer", flush=True)
    now = [p.detach() for p in params]
    torch.save({"step": 0, "spent": 0.0, "params": now, "ema": now, "opt": None}, path + ".new")
    os.replace(path + ".new", path)


def train_vae(args):
    """Decoder (and post_quant_conv) alone with --init; the whole autoencoder from scratch."""
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed + 4242)
    if args.init:
        vae = AutoencoderKL.from_pretrained(args.vae or os.path.join(args.init, "vae")).float()
        params = list(vae.decoder.parameters()) + list(vae.post_quant_conv.parameters())
    else:
        vae = AutoencoderKL(**VAE)
        params = list(vae.parameters())
    scale = vae.config.scaling_factor
    ema = [p.detach().clone() for p in params]
    opt = torch.optim.AdamW(params, lr=args.lr, betas=(0.9, 0.99), weight_decay=0.0)
    step, spent, losses = 0, 0.0, []
    path = os.path.join(args.work, "vae.pt")
    if os.path.exists(path):
        state = torch.load(path, weights_only=True)
        step, spent = state["step"], state["spent"]
        with torch.no_grad():
            for p, e, a, b in zip(params, ema, state["params"], state["ema"]):
                p.copy_(a), e.copy_(b)
        opt.load_state_dict(state["opt"])
        rng = np.random.default_rng(args.seed + 4242 + step)
    os.makedirs(args.work, exist_ok=True)

    def pictures(n, size, rng):
        return torch.from_numpy(np.stack([data.still(rng, size) for _ in range(n)])).permute(0, 3, 1, 2) * 2 - 1

    def edges(x):
        return torch.cat([(x[..., 1:] - x[..., :-1]).flatten(1), (x[..., 1:, :] - x[..., :-1, :]).flatten(1)], 1)

    @torch.no_grad()
    def mae(model):
        out = []
        for size, n in ((64, 64), (128, 16)):
            x = pictures(n, size, np.random.default_rng(31337))
            y = model.decode(model.encode(x).latent_dist.mean).sample.clamp(-1, 1)
            out.append(f"{size}: {(y - x).abs().mean().item() / 2:.4f}, edge {(edges(y) - edges(x)).abs().mean().item() / 2:.4f}")
        return "; ".join(out)

    def averaged():
        m = copy.deepcopy(vae)
        mine = (list(m.decoder.parameters()) + list(m.post_quant_conv.parameters())) if args.init else list(m.parameters())
        with torch.no_grad():
            for p, e in zip(mine, ema):
                p.copy_(e)
        return m.eval()

    decode = torch.compile(vae.decode) if args.compile else vae.decode
    print(f"held-out mean absolute error before (0..1): {mae(vae)}", flush=True)
    last = saved = time.time()
    while True:
        spent += time.time() - last
        last = time.time()
        progress = step / args.steps if args.steps else spent / (60 * args.minutes)
        if progress >= 1 or last - saved > 240:
            torch.save({"step": step, "spent": spent, "params": [p.detach() for p in params], "ema": ema,
                        "opt": opt.state_dict()}, path + ".new")
            os.replace(path + ".new", path)
            m = averaged()
            if not args.init:                      # unit spread of the latents
                with torch.no_grad():
                    z = m.encode(pictures(128, 64, rng)).latent_dist.mean
                m.register_to_config(scaling_factor=1 / z.std().item())
            save(half_state(m), os.path.join(args.out, "vae"))
            saved = time.time()
            if progress >= 1:
                print(f"held-out mean absolute error after:  {mae(m)}  ({step} steps, {spent / 60:.1f} min)", flush=True)
                break
        lr = args.lr * min(1, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * min(1, progress)))
        for g in opt.param_groups:
            g["lr"] = lr
        size, n = ((64, 24), (64, 24), (96, 12), (128, 6))[step % 4]      # the program renders at 2x and 4x too
        x = pictures(n, size, rng)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            with torch.set_grad_enabled(not args.init):
                dist = vae.encode(x).latent_dist
                # a little noise, since the UNet's latents are never exact
                z = dist.sample() if not args.init else dist.mean + torch.randn_like(dist.mean) * 0.04 / scale
            y = decode(z).sample.float()
        loss = (y - x).abs().mean() + (y - x).pow(2).mean() + args.edge * (edges(y) - edges(x)).abs().mean()
        if not args.init:
            loss = loss + 1e-4 * dist.kl().mean()
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        step += 1
        d = min(args.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(ema, [p.detach() for p in params], 1 - d)
        losses.append(loss.item())
        if step % args.log == 0:
            print(f"step {step}  {(spent + time.time() - last) / 60:.1f} min  {np.mean(losses[-args.log:]):.4f} loss  "
                  f"{lr:.2e} lr  {(time.time() - last):.2f} s/step", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("phase", choices=("vae", "words", "unet"))
    p.add_argument("--init", help="diffusers folder to start from (warm start)")
    p.add_argument("--vae", help="unet: folder of the trained VAE (default: the one of --init)")
    p.add_argument("--tokenizer", help="folder of the tokenizer (default: the one of --init)")
    p.add_argument("--out", required=True, help="diffusers folder to write")
    p.add_argument("--work", required=True, help="folder for the resumable checkpoint")
    p.add_argument("--minutes", type=float, default=80, help="length of the run, unless --steps is given")
    p.add_argument("--steps", type=int, default=0)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--lr", type=float, default=8e-4)
    p.add_argument("--warmup", type=int, default=200)
    p.add_argument("--drop", type=float, default=0.10, help="share of captions dropped")
    p.add_argument("--pure", type=float, default=0.375, help="share of each batch at the last, pure-noise step, at first")
    p.add_argument("--high", type=float, default=0.40, help="share of each batch among the noisiest quarter of the steps")
    p.add_argument("--probe", type=int, default=300, help="steps with place read-outs (not compiled)")
    p.add_argument("--path", type=float, default=0.5, help="weight of the path read-outs in those steps")
    p.add_argument("--strength", type=float, default=0,
                   help="unet: what guidance 7.5 is to do to a clip: as much as this one does without; not compatible with --probe")
    p.add_argument("--ema", type=float, default=0.999)
    p.add_argument("--snr-limit", type=float, default=6.0)
    p.add_argument("--pool", type=int, default=3072, help="encoded clips kept")
    p.add_argument("--fresh", type=int, default=1, help="new clips a step")
    p.add_argument("--edge", type=float, default=0.5, help="vae: weight of the gradient term")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--log", type=int, default=50)
    p.add_argument("--no-bf16", dest="bf16", action="store_false")
    p.add_argument("--compile", action="store_true")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    if args.phase == "vae":
        train_vae(args)
        return
    if not args.init and not args.vae:
        p.error("unet needs --init, or --vae to start from scratch")
    if not args.tokenizer:
        args.tokenizer = os.path.join(args.init or args.work, "tokenizer")
        if not args.init:
            make_tokenizer(args.tokenizer)
    {"words": train_words, "unet": train_unet}[args.phase](args)


if __name__ == "__main__":
    main()

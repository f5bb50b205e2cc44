#!/usr/bin/env python3
"""Times and errors of the CUDA backend beside PyTorch's on the same device; tools/gpu_check.sh runs it.

    tools/gpu_peers.py BUILD_DIR [--seconds 250] [--model DIR] [--parts products,ops,steps,network] [--small]

Parts, each with what it must reach (issue: the CUDA backend); a line that begins with FAILED says what does not:
  products  the best bf16 matrix product of PyTorch
  ops       convolutions, products and attention in bf16 and f16: errors no larger than PyTorch's, a dilated
            convolution not slower than the dense one
  steps     guided steps of a UNet of text-to-video-ms-1.7b's shape (random weights, made here without diffusers):
            at least half of the product's rate, re-dilated at most 1.03x, dispersed at most 1.10x in time and memory
  network   the same against diffusers: 1.3x of eager, not behind torch.compile; errors no larger than its own. Left
            out, with a line, if diffusers cannot be imported.

Needs PyTorch alone (diffusers for the last part), no network. --small: tiny sizes on whatever device is there, to try
the script; limits are not judged then. VIDILATE_MODULE_DIR and VD_TEST_BACKEND (cuda) go to the programs."""
import argparse
import json
import os
import pathlib
import signal
import struct
import subprocess
import sys
import tempfile
import time

import torch

WIDTHS, TEXT_WIDTH, HEAD = (320, 640, 1280, 1280), 1024, 64
NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.int64: "I64"}
OPTIONS = {torch.bfloat16: "bf16", torch.float16: "f16"}
failures = 0


def verdict(good, text):
    global failures
    failures += not good
    print(f"{'ok    ' if good else 'FAILED'} {text}", flush=True)


# ---- files -------------------------------------------------------------------------------------

def raw(t):
    import ctypes
    t = t.detach().cpu().contiguous()
    return bytes((ctypes.c_char * (t.numel() * t.element_size())).from_address(t.data_ptr())) if t.numel() else b""


def write(path, tensors):
    """safetensors, so that the package need not be there. `tensors`: name -> tensor or (dtype, shape, make)."""
    header, at = {}, 0
    for name, t in tensors.items():
        dtype, shape = (t.dtype, t.shape) if isinstance(t, torch.Tensor) else t[:2]
        size = torch.Size(shape).numel() * torch.empty((), dtype=dtype).element_size()
        header[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for t in tensors.values():
            f.write(raw(t if isinstance(t, torch.Tensor) else t[2]()))


def read(path, name):
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))[name]
        start, end = header["data_offsets"]
        f.seek(start, os.SEEK_CUR)
        return torch.frombuffer(bytearray(f.read(end - start)), dtype=torch.float32).reshape(header["shape"])


# ---- the checkpoint ----------------------------------------------------------------------------

def unet_shapes(widths=WIDTHS, text=TEXT_WIDTH, head=HEAD):
    """Names and shapes of a UNet3DConditionModel with attention in all levels but the last."""
    shapes = {}
    embedding = 4 * widths[0]

    def put(prefix, *shape, bias=True):
        shapes[f"{prefix}.weight"] = shape
        if bias:
            shapes[f"{prefix}.bias"] = shape[:1]

    def transformer(p, c, inner, cross):
        put(f"{p}.norm", c)
        put(f"{p}.proj_in", inner, c)
        b = f"{p}.transformer_blocks.0"
        for i, width in ((1, inner), (2, cross)):
            put(f"{b}.norm{i}", inner)
            put(f"{b}.attn{i}.to_q", inner, inner, bias=False)
            put(f"{b}.attn{i}.to_k", inner, width, bias=False)
            put(f"{b}.attn{i}.to_v", inner, width, bias=False)
            put(f"{b}.attn{i}.to_out.0", inner, inner)
        put(f"{b}.norm3", inner)
        put(f"{b}.ff.net.0.proj", 8 * inner, inner)
        put(f"{b}.ff.net.2", inner, 4 * inner)
        put(f"{p}.proj_out", c, inner)

    def layer(p, i, before, c, attends):
        r = f"{p}.resnets.{i}"
        put(f"{r}.norm1", before)
        put(f"{r}.conv1", c, before, 3, 3)
        put(f"{r}.time_emb_proj", c, embedding)
        put(f"{r}.norm2", c)
        put(f"{r}.conv2", c, c, 3, 3)
        if before != c:
            put(f"{r}.conv_shortcut", c, before, 1, 1)
        for k in (1, 2, 3, 4):
            put(f"{p}.temp_convs.{i}.conv{k}.0", c)
            put(f"{p}.temp_convs.{i}.conv{k}.{2 if k == 1 else 3}", c, c, 3, 1, 1)
        if attends:
            transformer(f"{p}.attentions.{i}", c, c, text)
            transformer(f"{p}.temp_attentions.{i}", c, c, c)

    put("conv_in", widths[0], 4, 3, 3)
    put("time_embedding.linear_1", embedding, widths[0])
    put("time_embedding.linear_2", embedding, embedding)
    transformer("transformer_in", widths[0], 8 * head, 8 * head)
    last, skips = len(widths) - 1, [widths[0]]
    for n, c in enumerate(widths):
        for i in range(2):
            layer(f"down_blocks.{n}", i, (widths[max(n - 1, 0)], c)[i], c, n < last)
            skips.append(c)
        if n < last:
            put(f"down_blocks.{n}.downsamplers.0.conv", c, c, 3, 3)
            skips.append(c)
    for i in range(2):
        layer("mid_block", i, widths[-1], widths[-1], False)
    transformer("mid_block.attentions.0", widths[-1], widths[-1], text)
    transformer("mid_block.temp_attentions.0", widths[-1], widths[-1], widths[-1])
    before = widths[-1]
    for n, c in enumerate(reversed(widths)):
        for i in range(3):
            layer(f"up_blocks.{n}", i, before + skips.pop(), c, n > 0)
            before = c
        if n < last:
            put(f"up_blocks.{n}.upsamplers.0.conv", c, c, 3, 3)
    put("conv_norm_out", widths[0])
    put("conv_out", 4, widths[0], 3, 3)
    return shapes


def make_checkpoint(folder, device, widths, text, head):
    """Values as tools/bench_peers.py has them: a network of these weights neither grows nor vanishes."""
    folder.mkdir(parents=True)
    g = torch.Generator(device).manual_seed(0)

    def make(shape, norm):
        spread = 0.5 / max(1, torch.Size(shape[1:]).numel()) ** 0.5 if len(shape) > 1 else 0.2
        return (torch.randn(shape, generator=g, device=device) * spread + norm).bfloat16()

    shapes = unet_shapes(widths, text, head)
    norms = {n for n, s in shapes.items() if len(s) == 1 and n.endswith("weight")}
    write(folder / "diffusion_pytorch_model.safetensors",
          {n: (torch.bfloat16, s, lambda s=s, n=n: make(s, n in norms)) for n, s in shapes.items()})
    blocks = len(widths) - 1
    (folder / "config.json").write_text(json.dumps({
        "_class_name": "UNet3DConditionModel", "act_fn": "silu", "attention_head_dim": head,
        "block_out_channels": widths, "cross_attention_dim": text, "downsample_padding": 1, "in_channels": 4,
        "out_channels": 4, "layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-5,
        "norm_num_groups": 32, "sample_size": 32,
        "down_block_types": ["CrossAttnDownBlock3D"] * blocks + ["DownBlock3D"],
        "up_block_types": ["UpBlock3D"] + ["CrossAttnUpBlock3D"] * blocks}))


# ---- times -------------------------------------------------------------------------------------

def wait(device):
    if device == "cuda":
        torch.cuda.synchronize()


def mean_ms(device, runs, f):
    f()
    wait(device)
    start = time.perf_counter()
    for _ in range(runs):
        f()
    wait(device)
    return (time.perf_counter() - start) * 1e3 / runs


def least_ms(device, runs, f):
    f()
    return min(mean_ms_once(device, f) for _ in range(runs))


def mean_ms_once(device, f):
    wait(device)
    start = time.perf_counter()
    f()
    wait(device)
    return (time.perf_counter() - start) * 1e3


def run(args, *command, **env):
    left = args.end - time.monotonic()
    result = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, text=True, timeout=max(left, 5),
                            env=dict(os.environ, **env, VD_TEST_BACKEND=os.environ.get("VD_TEST_BACKEND", "cuda")))
    if result.returncode != 0:
        raise RuntimeError(f"{command[0]}: exit code {result.returncode}: {result.stdout[-300:]}")
    return result.stdout


# ---- products and ops --------------------------------------------------------------------------

def best_product(args):
    best = 0
    for n in (64,) if args.small else (4096, 8192):
        a, b = (torch.randn(n, n, device=args.device, dtype=torch.bfloat16) for _ in range(2))
        best = max(best, 2 * n ** 3 / mean_ms(args.device, 20, lambda: a @ b) * 1e-9)
    print(f"PyTorch {torch.__version__}: bf16 product {best:.1f} TFLOP/s")
    return best


def op_cases(small):
    """(name, what must not be slower than which, tensors)"""
    n, scale = (1, 32) if small else (32, 1)
    cases = []
    for c, side, dilations in ((320, 64, (1,)), (640, 64, (1, 2, 3, 4)), (1280, 32, (1, 2, 4))):
        for d in dilations:
            c_, side_ = max(c // scale, 16), max(side // 4, 8) if small else side
            cases.append((f"conv {c_} {side_}x{side_} dilation {d}", (n, side_, side_, c_), (c_, c_, 3, 3), d))
    rows = 64 if small else 32768
    cases.append((f"product {rows}x{1280 // scale}", (rows, 1280 // scale), (2560 // scale, 1280 // scale), 0))
    t = 64 if small else 4096
    cases.append((f"attention {t}", (2 if small else 8, t, 2 if small else 10, 64), None, 0))
    return cases


def make_op(case, g):
    name, x, w, dilation = case
    if w is None:
        return {k: torch.randn(x, generator=g) for k in "qkv"}
    tensors = {"x": torch.randn(x, generator=g),
               "w": torch.randn(w, generator=g) * torch.Size(w[1:]).numel() ** -0.5,
               "b": torch.randn(w[0], generator=g) * 0.1}
    if dilation:
        tensors["desc"] = torch.tensor([1, dilation, dilation])
    return tensors


def op_in_torch(t, dtype, device):
    """A function that computes it, and one that brings its result into our order of axes."""
    from torch.nn import functional as f
    on = {k: v.to(device, dtype) for k, v in t.items() if k != "desc"}
    if "q" in t:
        q, k, v = (on[n].transpose(1, 2) for n in "qkv")
        return (lambda: f.scaled_dot_product_attention(q, k, v)), lambda y: y.transpose(1, 2)
    if "desc" not in t:
        return (lambda: f.linear(on["x"], on["w"], on["b"])), lambda y: y
    x = on["x"].permute(0, 3, 1, 2)
    w = on["w"].contiguous(memory_format=torch.channels_last)
    d = int(t["desc"][2])
    return (lambda: f.conv2d(x, w, on["b"], padding=d, dilation=d)), lambda y: y.permute(0, 2, 3, 1)


def distance(a, b):
    return ((a.double() - b.double()).square().mean() / b.double().square().mean()).sqrt().item()


def compare_ops(args, temp):
    runs = 2 if args.small else 20
    g = torch.Generator().manual_seed(3)
    cases = op_cases(args.small)
    for dtype, option in OPTIONS.items():
        files, made = [], []
        for i, case in enumerate(cases):
            # Rounded once, so that all compute from the same numbers; the bias stays float32 for us.
            made.append({k: v if k == "desc" else v.to(dtype).float() for k, v in make_op(case, g).items()})
            write(f"{temp}/{i}.in", made[-1])
            files += [f"{temp}/{i}.in", f"{temp}/{i}.out"]
        lines = run(args, f"{args.build}/tests/backend/backend_op", option, runs, *files).splitlines()
        ours_ms = [float(line.split()[-1]) for line in lines]
        dense = {}
        for i, (name, x, _, dilation) in enumerate(cases):
            compute, order = op_in_torch(made[i], torch.float32, args.device)
            exact = order(compute()).cpu()
            compute, order = op_in_torch(made[i], dtype, args.device)
            theirs_ms, theirs = mean_ms(args.device, runs, compute), order(compute()).float().cpu()
            a, b = distance(read(f"{temp}/{i}.out", "y"), exact), distance(theirs, exact)
            # The same roundings of another order of sums: 2% is noise.
            verdict(a <= 1.02 * b or args.small, f"{option} {name}: {ours_ms[i]:.3f} ms, PyTorch {theirs_ms:.3f} ms; "
                    f"error {a:.2e}, PyTorch {b:.2e}")
            if dilation == 1:
                dense[x] = ours_ms[i]
            elif dilation:
                ratio = ours_ms[i] / dense[x]
                verdict(ratio <= 1.05 or args.small, f"{option} {name}: {ratio:.3f}x of the dense one")


# ---- the network -------------------------------------------------------------------------------

def time_steps(args, model, product):
    """-> {latent: milliseconds of the plain step}"""
    settings = {"redilated": "redilated.json", "dispersed": "dispersed.json"}
    source = json.loads(pathlib.Path(args.source, "configs/modelscope-512x512.json").read_text())
    keys = {"redilated": ("dilate", "dilate_tau"), "dispersed": ("dilate", "dilate_tau", "disperse", "R", "inflate_tau")}
    for way, name in settings.items():
        settings[way] = model / name
        chosen = {k: source[k] for k in keys[way] if k in source}
        if way == "dispersed" and "disperse" not in chosen:
            chosen["disperse"] = [p for p in ("mid_block.resnets", "down_blocks.3.resnets", "up_blocks.0.resnets",
                                              "up_blocks.0.upsamplers")]
            chosen["R"] = [3, 5, 3, 2, "0.05"]
        if way == "dispersed":
            chosen["inflate_tau"] = 50
        settings[way].write_text(json.dumps(dict(chosen, dilate_tau=50)))
    sizes = ["8x8", "16x16"] if args.small else ["32x32", "64x64", "128x128"]
    middle = sizes[1]
    cases = sizes + [f"{middle},{settings['redilated']}", f"{middle},{settings['dispersed']}", middle]
    program = (f"{args.build}/tests/unet3d/unet_steps", model / "unet", "f32" if args.small else "bf16",
               2 if args.small else 16, 2 if args.small else 8)
    lines = run(args, *program, *cases)
    rows = [json.loads(line) for line in lines.splitlines()]
    plain = {}
    for r in rows[:len(sizes)]:
        plain[r["latent"]] = r["step_ms"]
        rate = 2 * r["branch_tflop"] / r["step_ms"] * 1e3
        verdict(rate >= 0.5 * product or args.small, f"{r['latent']}: step {r['step_ms']:.1f} ms (median "
                f"{r['median_ms']:.1f}), {rate:.1f} TFLOP/s, {rate / product:.2f} of the best product; arena "
                f"{r['arena_bytes'] / 2**20:.0f} MiB, weights {r['weight_bytes'] / 2**20:.0f} MiB")
    redilated, dispersed, again = rows[-3:]
    base_ms = min(plain[middle], again["step_ms"])
    print(f"{middle} again at the end: {again['step_ms']:.1f} ms")
    ratio = redilated["step_ms"] / base_ms
    verdict(ratio <= 1.03 or args.small, f"re-dilated: {ratio:.3f}x of the plain step (limit 1.03)")
    ratio = dispersed["step_ms"] / redilated["step_ms"]
    memory = [r["arena_bytes"] + r["weight_bytes"] for r in (dispersed, redilated)]
    verdict((ratio <= 1.1 and memory[0] <= 1.1 * memory[1]) or args.small, f"dispersed: {ratio:.3f}x of the re-dilated "
            f"step, {memory[0] / memory[1]:.3f}x of its memory (limit 1.10)")
    if os.environ.get("VD_TEST_BACKEND") != "cpu":
        r = json.loads(run(args, *program, middle, VD_TEST_OFFLOAD="1"))
        print(f"{middle} with --offload: {r['step_ms'] / base_ms:.2f}x of the plain step, "
              f"{(r['arena_bytes'] + r['weight_bytes']) / 2**20:.0f} MiB of the device")
    return plain


def network_inputs(args, latent, dtype, batch):
    h, w = (int(s) for s in latent.split("x"))
    g = torch.Generator().manual_seed(1)
    frames = 2 if args.small else 16
    sample = torch.randn(batch, 4, frames, h, w, generator=g)
    context = torch.randn(batch, 77, args.text, generator=g)
    return sample, context, [t.to(args.device, dtype) for t in (sample, context)]


@torch.no_grad()
def compare_errors(args, model, net, temp, latent):
    sample, context, _ = network_inputs(args, latent, torch.float32, 1)
    write(f"{temp}/in", {"sample": sample, "context": context, "timestep": torch.tensor([500.0])})
    results = {}
    for dtype in (torch.float32, *OPTIONS):
        moved = net.to(dtype)
        _, _, (x, c) = network_inputs(args, latent, dtype, 1)
        results[dtype] = moved(x, 500, c).sample.float().cpu()
    for dtype, option in OPTIONS.items():
        if dtype == torch.float16 and os.environ.get("VD_TEST_BACKEND") == "cpu":
            continue # it does not compute in it
        run(args, f"{args.build}/tests/unet3d/unet_predict", model / "unet", f"{temp}/in", f"{temp}/out", option, 0)
        a, b = (distance(y, results[torch.float32]) for y in (read(f"{temp}/out", "sample"), results[dtype]))
        verdict(a <= 1.02 * b or args.small, f"{option} network at {latent}: error {a:.2e}, PyTorch {b:.2e}")


@torch.no_grad()
def compare_network(args, model, plain, temp):
    try:
        import diffusers
    except ImportError as e:
        print(f"left out: no diffusers here ({e}), so no network of PyTorch's to compare with")
        return
    print(f"diffusers {diffusers.__version__}")
    net = diffusers.UNet3DConditionModel.from_config(json.loads((model / "unet/config.json").read_text()))
    net.load_state_dict(load_all(model / "unet/diffusion_pytorch_model.safetensors"))
    net = net.to(args.device).eval()
    compare_errors(args, model, net, temp, next(iter(plain)))
    net = net.to(torch.float32 if args.small else torch.bfloat16).to(memory_format=torch.preserve_format)
    dtype = next(net.parameters()).dtype
    inputs = {latent: network_inputs(args, latent, dtype, 2)[2] for latent in plain}
    for latent, (x, c) in inputs.items():
        ms = least_ms(args.device, 2 if args.small else 5, lambda x=x, c=c: net(x, 500, c))
        verdict(ms >= 1.3 * plain[latent] or args.small,
                f"{latent}: eager {ms:.1f} ms, {ms / plain[latent]:.2f}x of ours (wanted 1.3)")
    compiled = torch.compile(net)
    for latent, (x, c) in sorted(inputs.items(), key=lambda item: item[0] != "64x64"):
        if args.end - time.monotonic() < 60:
            print(f"left out: torch.compile at {latent}, no time")
            continue
        torch._dynamo.reset()
        ms = least_ms(args.device, 2 if args.small else 5, lambda x=x, c=c: compiled(x, 500, c))
        verdict(ms >= plain[latent] or args.small,
                f"{latent}: torch.compile {ms:.1f} ms, {ms / plain[latent]:.2f}x of ours (wanted 1)")


def load_all(path):
    """The bf16 tensors of a file that write() made."""
    import mmap
    with open(path, "rb") as f:
        length = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(length))
        data = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY)
    return {name: torch.frombuffer(data, dtype=torch.bfloat16, offset=8 + length + h["data_offsets"][0],
                                   count=torch.Size(h["shape"]).numel()).reshape(h["shape"])
            for name, h in header.items()}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("build", type=pathlib.Path)
    p.add_argument("--seconds", type=float, default=250)
    p.add_argument("--model", type=pathlib.Path, help="keep the checkpoint here, and use it if it is there")
    p.add_argument("--parts", default="products,ops,steps,network")
    p.add_argument("--small", action="store_true")
    args = p.parse_args()
    args.end = time.monotonic() + args.seconds
    args.source = pathlib.Path(__file__).parent.parent
    args.device = "cuda" if torch.cuda.is_available() else "cpu"
    widths, args.text, head = ((32, 32, 64, 64), 32, 16) if args.small else (WIDTHS, TEXT_WIDTH, HEAD)
    if args.device == "cpu" and not args.small:
        sys.exit("FAILED PyTorch has no CUDA device")

    def out_of_time(*_):
        raise TimeoutError(f"no end within {args.seconds:.0f} s")
    signal.signal(signal.SIGALRM, out_of_time)
    signal.setitimer(signal.ITIMER_REAL, args.seconds)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    with tempfile.TemporaryDirectory() as temp:
        model = args.model or pathlib.Path(temp, "model")
        parts = {}

        def part(name, f, *values):
            if name not in args.parts:
                return
            start = time.monotonic()
            try:
                parts[name] = f(args, *values)
            except Exception as e:  # a part that fails must not hide what the others measure
                verdict(False, f"{name}: {e}")
            print(f"-- {name}: {time.monotonic() - start:.0f} s", flush=True)
            if args.device == "cuda":
                torch.cuda.empty_cache()

        part("products", best_product)
        part("ops", compare_ops, temp)
        if not (model / "unet").exists():
            make_checkpoint(model / "unet", args.device, widths, args.text, head)
        part("steps", time_steps, model, parts.get("products") or 1)
        if parts.get("steps"): # the times to compare with
            part("network", compare_network, model, parts["steps"], temp)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

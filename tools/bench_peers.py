#!/usr/bin/env python3
"""Times vidilate beside diffusers and OpenVINO: one forward of a UNet3DConditionModel of
text-to-video-ms-1.7b's shape (1.41e9 random weights, fp16), the same inputs, in turns in one run.

    tools/bench_peers.py build/vidilate --model /tmp/ms17b [--frames 16] [--latent 32x32] [--dtype bf16]
        [--peers vidilate,diffusers,openvino] [--runs 2] [--rounds 2] [--isa AVX2|AVX512_CORE] [--exact]

Makes the checkpoint if --model is not there (5 GB of memory for a minute). Each turn is a process of
its own: it loads, warms up once, and runs `--runs` forwards; turns alternate for `--rounds` rounds.
Prints for each program the least time of a forward, the processor time it took (which says more when
others use the machine), the time from nothing to loaded, the highest resident size, and the ratios; and
how far the outputs are apart. --exact also runs diffusers once in float64 (12 GB and some minutes) and gives
each one's distance from that.

--isa limits oneDNN in all three (ONEDNN_MAX_CPU_ISA), torch's own kernels (ATEN_CPU_CAPABILITY) and MKL
(MKL_ENABLE_INSTRUCTIONS).
OpenVINO reads a model that is converted once, layer by layer in half precision, beside the checkpoint;
that takes about 9 GB and is only done when OpenVINO is among the peers. Needs torch, diffusers, safetensors,
numpy; openvino for that peer."""
import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

TEXT_TOKENS = 77
STEP = 500.0


def make_checkpoint(folder):
    import torch
    from diffusers import UNet3DConditionModel
    from safetensors.torch import save_file
    with torch.device("meta"):
        model = UNet3DConditionModel(cross_attention_dim=1024, attention_head_dim=64, sample_size=32,
                                     block_out_channels=(320, 640, 1280, 1280))
    norms = {f"{name}.weight" for name, m in model.named_modules()
             if isinstance(m, (torch.nn.GroupNorm, torch.nn.LayerNorm))}
    g = torch.Generator().manual_seed(0)
    tensors = {}
    for name, p in model.state_dict().items():
        spread = 0.5 / max(1, p[0].numel()) ** 0.5 if p.dim() > 1 else 0.2
        tensors[name] = (torch.randn(p.shape, generator=g) * spread + (name in norms)).half()
    unet = pathlib.Path(folder) / "unet"
    unet.mkdir(parents=True)
    save_file(tensors, str(unet / "diffusion_pytorch_model.safetensors"), metadata={"format": "pt"})
    model.save_config(str(unet))
    print(f"made {folder}: {sum(t.numel() for t in tensors.values()):,} weights", file=sys.stderr)


def make_inputs(args, path):
    import torch
    from safetensors.torch import save_file
    h, w = args.size
    g = torch.Generator().manual_seed(1)
    save_file({"in.sample": torch.randn(1, 4, args.frames, h, w, generator=g),
               "in.context": torch.randn(1, TEXT_TOKENS, 1024, generator=g),
               "in.timestep": torch.tensor([STEP])}, path)


# ---- one turn, in a process of its own ---------------------------------------------------------

def timed(runs, forward):
    """Least wall and processor seconds of a forward after one that warms up; its output."""
    output = forward()
    wall = cpu = float("inf")
    for _ in range(runs):
        start, cpu_start = time.perf_counter(), time.process_time()
        output = forward()
        wall = min(wall, time.perf_counter() - start)
        cpu = min(cpu, time.process_time() - cpu_start)
    return wall, cpu, output


def report(load, wall, cpu, output, path):
    import numpy
    numpy.save(path, output)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"load": load, "wall": wall, "cpu": cpu, "peak": peak}))


def turn_diffusers(args, inputs, output):
    import torch
    from diffusers import UNet3DConditionModel
    from safetensors.torch import load_file
    dtype = {"bf16": torch.bfloat16, "f32": torch.float32, "f64": torch.float64}[args.dtype]
    torch.set_num_threads(args.threads)
    output_dtype = torch.float64 if args.dtype == "f64" else torch.float32
    tensors = load_file(inputs)
    start = time.perf_counter()
    model = UNet3DConditionModel.from_pretrained(f"{args.model}/unet", torch_dtype=dtype).eval()
    load = time.perf_counter() - start

    @torch.no_grad()
    def forward():
        return model(tensors["in.sample"].to(dtype), tensors["in.timestep"],
                     tensors["in.context"].to(dtype)).sample.to(output_dtype).numpy()
    report(load, *timed(args.runs, forward), output)


def openvino_folder(args):
    h, w = args.size
    return pathlib.Path(args.model) / f"openvino-{args.frames}x{h}x{w}"


def turn_convert(args, inputs, _):
    """The weights stay in half precision: traced as they are, and shared with torch until written."""
    import openvino
    import torch
    from diffusers import UNet3DConditionModel
    from safetensors.torch import load_file
    torch.set_num_threads(args.threads)
    tensors = load_file(inputs)
    model = UNet3DConditionModel.from_pretrained(f"{args.model}/unet", torch_dtype=torch.bfloat16)

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, sample, timestep, context):
            return self.model(sample.bfloat16(), timestep, context.bfloat16(), return_dict=False)[0].float()

    with torch.no_grad():
        example = (tensors["in.sample"], tensors["in.timestep"], tensors["in.context"])
        converted = openvino.convert_model(Plain().eval().requires_grad_(False), example_input=example,
                                           input=[tuple(t.shape) for t in example])
    folder = openvino_folder(args)
    folder.mkdir(exist_ok=True)
    openvino.save_model(converted, str(folder / "model.xml"), compress_to_fp16=False)
    report(0, 0, 0, 0, os.devnull)


def turn_openvino(args, inputs, output):
    import openvino
    from safetensors.numpy import load_file
    tensors = load_file(inputs)
    core = openvino.Core()
    start = time.perf_counter()
    model = core.compile_model(str(openvino_folder(args) / "model.xml"), "CPU", {
        "INFERENCE_PRECISION_HINT": args.dtype, "INFERENCE_NUM_THREADS": args.threads,
        "PERFORMANCE_HINT": "LATENCY"})
    load = time.perf_counter() - start
    values = [tensors["in.sample"], tensors["in.timestep"], tensors["in.context"]]
    report(load, *timed(args.runs, lambda: list(model(values).values())[0]), output)


def turn_vidilate(args, inputs, output):
    """Times come from `vidilate bench`, the output from `vidilate forward` on the same inputs."""
    import numpy
    from safetensors.numpy import load_file
    h, w = args.size
    text = subprocess.run([args.vidilate, "bench", "--json", "--model", args.model, "--frames", str(args.frames),
                           "--height", str(8 * h), "--width", str(8 * w), "--dtype", args.dtype,
                           "--threads", str(args.threads), "--steps", str(args.runs)],
                          check=True, capture_output=True, text=True).stdout
    r = json.loads(text)
    with tempfile.TemporaryDirectory() as temp:
        manifest = {"models": {"m": {"unet": os.path.relpath(f"{args.model}/unet", temp)}},
                    "cases": [{"name": "c", "group": "unet", "module": "unet", "model": "m",
                               "file": os.path.relpath(inputs, temp), "settings": {}}]}
        pathlib.Path(temp, "m.json").write_text(json.dumps(manifest))
        subprocess.run([args.vidilate, "forward", "--manifest", f"{temp}/m.json", "--case", "c", "--dtype",
                        args.dtype, "-o", f"{temp}/out.safetensors"], check=True, stdout=subprocess.DEVNULL)
        numpy.save(output, load_file(f"{temp}/out.safetensors")["sample"])
    print(json.dumps({"load": r["load_ms"] / 1e3, "wall": r["forward_ms"]["min"] / 1e3,
                      "cpu": r["forward_ms"]["cpu"] / 1e3, "peak": r["peak_rss_bytes"],
                      "tflop": r["tflop"], "matmul": r["matmul_peak_tflops"],
                      "weights": r["weight_bytes"]}))


TURNS = {"vidilate": turn_vidilate, "diffusers": turn_diffusers, "openvino": turn_openvino,
         "convert": turn_convert}


# ---- the run -----------------------------------------------------------------------------------

def take_turn(args, name, inputs, output, dtype=None, runs=None):
    env = dict(os.environ, OMP_NUM_THREADS=str(args.threads))
    if args.isa:
        env["ONEDNN_MAX_CPU_ISA"] = args.isa
        env["ATEN_CPU_CAPABILITY"] = "avx2" if args.isa == "AVX2" else "avx512"
        env["MKL_ENABLE_INSTRUCTIONS"] = "AVX2" if args.isa == "AVX2" else "AVX512"
    command = [sys.executable, __file__, args.vidilate, "--turn", name, inputs, output, "--model", args.model,
               "--frames", str(args.frames), "--latent", args.latent, "--dtype", dtype or args.dtype,
               "--runs", str(args.runs if runs is None else runs), "--threads", str(args.threads)]
    run = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True)
    if run.returncode != 0:
        sys.exit(f"{name} failed")
    return json.loads(run.stdout.strip().splitlines()[-1])


def distance(a, b):
    import numpy
    return float(numpy.sqrt(numpy.mean((a - b) ** 2) / numpy.mean(b ** 2)))


def compare(args):
    import numpy
    peers = args.peers.split(",")
    best = {}
    with tempfile.TemporaryDirectory() as temp:
        inputs = f"{temp}/in.safetensors"
        make_inputs(args, inputs)
        if "openvino" in peers and not openvino_folder(args).exists():
            take_turn(args, "convert", inputs, os.devnull)
        for _ in range(args.rounds):
            for name in peers:
                r = take_turn(args, name, inputs, f"{temp}/{name}.npy")
                best[name] = {k: min(v, best.get(name, r)[k]) for k, v in r.items()}
        outputs = {name: numpy.load(f"{temp}/{name}.npy") for name in peers}
        if args.exact:
            take_turn(args, "diffusers", inputs, f"{temp}/exact.npy", "f64", runs=0)
            exact = numpy.load(f"{temp}/exact.npy")
    ours = best.get("vidilate")
    print(f"{args.frames} frames of {args.latent} latents, {args.dtype}, {args.threads} threads"
          + (f", at most {args.isa}" if args.isa else ""))
    print(f"{'':10} {'forward':>9} {'ratio':>6} {'processor':>10} {'ratio':>6} {'load':>7} {'ratio':>6} {'peak':>9}")
    for name, r in best.items():
        ratio = [r[k] / ours[k] if ours else 1 for k in ("wall", "cpu", "load")]
        print(f"{name:10} {r['wall']:7.2f} s {ratio[0]:6.2f} {r['cpu']:8.2f} s {ratio[1]:6.2f} "
              f"{r['load']:5.1f} s {ratio[2]:6.2f} {r['peak'] / 2**20:6.0f} MiB")
    if ours:
        rate = ours["tflop"] / ours["wall"]
        print(f"vidilate: {ours['tflop']:.2f} TFLOP at {rate:.2f} TFLOP/s, {rate / ours['matmul']:.2f} of its best "
              f"matrix product ({ours['matmul']:.2f}); {(ours['peak'] - ours['weights']) / 2**20:.0f} MiB above its weights")
    bad = False
    first = outputs.get("diffusers", next(iter(outputs.values())))
    for name, y in outputs.items():
        apart = distance(y, first)
        text = f"{name:10} relative distance from {'diffusers' if first is outputs.get('diffusers') else peers[0]} {apart:.2e}"
        if args.exact:
            text += f", from float64 {distance(y, exact):.2e}"
        print(text)
        # Two roundings of the whole network's activations: some percent; another network: above 1.
        bad |= not apart < (0.1 if args.dtype == "bf16" else 1e-3)
    return 1 if bad else 0


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("vidilate")
    p.add_argument("--model", required=True)
    p.add_argument("--frames", type=int, default=16)
    p.add_argument("--latent", default="32x32", help="height x width")
    p.add_argument("--dtype", choices=["bf16", "f32", "f64"], default="bf16",
                   help="f64: diffusers alone")
    p.add_argument("--peers", default="vidilate,diffusers")
    p.add_argument("--runs", type=int, default=2)
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--isa")
    p.add_argument("--exact", action="store_true")
    p.add_argument("--turn", nargs=3, help=argparse.SUPPRESS)
    args = p.parse_args()
    args.size = [int(side) for side in args.latent.split("x")]
    if args.turn:
        TURNS[args.turn[0]](args, *args.turn[1:])
        return 0
    if not os.path.isdir(args.model):
        make_checkpoint(args.model)
    return compare(args)


if __name__ == "__main__":
    sys.exit(main())

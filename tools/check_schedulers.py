"""Compares every scheduler with diffusers over a grid of configs and random ones.

Needs diffusers, torch, a C compiler and libcjson; run from the repository root:
    python3 tools/check_schedulers.py [--random N] [--seed S]
    python3 tools/check_schedulers.py --table    (rows of tests/video/test_scheduler_more.inc)
Timesteps must be equal. diffusers steps in float64 from its float32 alphas and sigmas, ours keeps
samples in float32: they may differ by 2e-5 of the largest value so far. Prints how often the two
differ on purpose (see DECISIONS) and every other config that differs; exits with 1 if there is one.
"""

import argparse
import ctypes
import glob
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import warnings
from unittest import mock

import diffusers
import numpy as np
import torch

TOLERANCE = 2e-5
# Where ours is meant to differ: what verdict() says, and why.
DECISIONS = {
    "diffusers adds timestep -1": "trailing spacing has one entry too many for 62 step counts",
    "diffusers ends in NaN": "ours takes the limit, or clamps a variance that rounding made negative",
    "zero signal": "an epsilon prediction at zero signal has no x0; diffusers divides by 0",
    "more steps than trained": "PNDM and the sigma classes do not check this in diffusers",
    "past the last timestep": "steps_offset leads beyond the trained timesteps",
    "a timestep twice": "DPM++ and UniPC divide by a step of 0, or nearly so",
    "truncated timestep": "DPM++ truncates Karras timesteps of cosine betas: 76 - 1e-8 becomes 75",
    "noise rises": "zero SNR lowers the last sigma below the one before",
}

CLASSES = {
    "DDIMScheduler": 0,
    "DPMSolverMultistepScheduler": 1,
    "EulerDiscreteScheduler": 1,
    "EulerAncestralDiscreteScheduler": 0,
    "UniPCMultistepScheduler": 1,
    "PNDMScheduler": 0,
    "LCMScheduler": 0,
}
STEPS = (1, 2, 3, 7, 20, 50, 61)
SHAPE = (1, 2, 3, 4)


def build(folder):
    library = os.path.join(folder, "schedulers.so")
    sources = glob.glob("video/scheduler*.c") + glob.glob("core/*.c")
    subprocess.run(
        ["cc", "-std=c17", "-O2", "-D_GNU_SOURCE", "-shared", "-fPIC", "-I.", "-o", library]
        + sources
        + ["-lcjson", "-lm"],
        check=True,
    )
    lib = ctypes.CDLL(library)
    lib.vd_error_message.restype = ctypes.c_char_p
    for name in ("timestep", "init_noise_sigma", "input_scale"):
        getattr(lib, "vd_scheduler_" + name).restype = ctypes.c_double
    lib.vd_scheduler_needs_noise.restype = ctypes.c_bool
    return lib


def run_ours(lib, folder, config, steps, eta, sample, outputs, noise):
    """(timesteps, samples) or the error's text"""
    path = os.path.join(folder, "config.json")
    with open(path, "w") as f:
        json.dump(config, f)
    c_config = ctypes.create_string_buffer(1024)
    if lib.vd_scheduler_config_read(path.encode(), None, c_config) != 0:
        return lib.vd_error_message().decode()
    s = ctypes.c_void_p()
    count = sample.size
    status = lib.vd_scheduler_create(
        c_config, steps, ctypes.c_double(eta), ctypes.c_size_t(count), ctypes.byref(s)
    )
    lib.vd_scheduler_config_clear(c_config)
    if status != 0:
        return lib.vd_error_message().decode()
    floats = ctypes.POINTER(ctypes.c_float)
    x = (sample * np.float32(lib.vd_scheduler_init_noise_sigma(s))).astype(np.float32)
    times, trace = [], []
    for i in range(lib.vd_scheduler_calls(s)):
        times.append(lib.vd_scheduler_timestep(s, i))
        scale = np.float32(lib.vd_scheduler_input_scale(s, i))
        output = np.ascontiguousarray(outputs[i] + np.float32(0.1) * x * scale)
        status = lib.vd_scheduler_step(
            s,
            i,
            x.ctypes.data_as(floats),
            output.ctypes.data_as(floats),
            noise[i].ctypes.data_as(floats),
            ctypes.c_size_t(count),
        )
        if status != 0:
            return lib.vd_error_message().decode()
        trace.append(x.copy())
    lib.vd_scheduler_destroy(s)
    return np.array(times), np.array(trace)


def run_theirs(config, steps, eta, sample, outputs, noise):
    kind = getattr(diffusers, config["_class_name"])
    keys = {k: v for k, v in config.items() if k != "_class_name"}
    try:
        # PyTorch's float32 sqrt may be off by a bit, which zero SNR magnifies at its last timesteps
        with mock.patch.object(torch.Tensor, "sqrt", lambda v: torch.from_numpy(np.sqrt(v.numpy()))):
            s = kind(**keys)
        s.set_timesteps(steps)
        if hasattr(s, "set_begin_index"):
            s.set_begin_index(0)
        module = sys.modules[kind.__module__]
        for constants in ("alphas_cumprod", "final_alpha_cumprod", "sigmas"):
            if hasattr(s, constants):
                setattr(s, constants, getattr(s, constants).double())
        x = torch.from_numpy(sample).double() * s.init_noise_sigma
        trace = []
        for i, t in enumerate(s.timesteps):
            output = torch.from_numpy(outputs[i]) + 0.1 * s.scale_model_input(x, t)
            if hasattr(module, "randn_tensor"):
                module.randn_tensor = lambda *a, **k: torch.from_numpy(noise[i])
            extra = {"eta": eta} if config["_class_name"] == "DDIMScheduler" else {}
            with mock.patch.object(torch, "float32", torch.float64):  # casts inside step
                x = s.step(output, t, x, **extra).prev_sample
            trace.append(x.numpy().copy())
        return s.timesteps.numpy().astype(np.float64), np.array(trace)
    except Exception as error:  # whatever the reference does not want
        return f"{type(error).__name__}: {error}"


def verdict(config, steps, ours, theirs):
    """None if equal, else a key of DECISIONS or what differs; and the largest relative error"""
    if isinstance(theirs, str):
        return (None if isinstance(ours, str) else f"diffusers refuses: {theirs[:90]}"), 0
    times, trace = theirs
    if isinstance(ours, str):
        if not np.isfinite(trace).all():
            return None, 0
        for text, key in (
            ("nothing is left of the signal", "zero signal"),
            ("the timesteps the model was trained on", "more steps than trained"),
            ("ask for timestep", "past the last timestep"),
            ("visit a timestep twice", "a timestep twice"),
            ("the noise rises", "noise rises"),
        ):
            if text in ours:
                return key, 0
        return f"we refuse: {ours}", 0
    if len(times) == len(ours[0]) + 1 and times[-1] == -1:
        return "diffusers adds timestep -1", 0
    if len(times) != len(ours[0]):
        return f"{len(ours[0])} calls, diffusers has {len(times)}", 0
    if config.get("use_karras_sigmas") and config["timestep_spacing"] == "trailing":
        train = config.get("num_train_timesteps", 1000)
        if len(np.arange(train, 0, -train / steps)) > steps:  # it feeds Euler's ramp
            return "diffusers adds timestep -1", 0
    if (
        config.get("use_karras_sigmas")
        and config["beta_schedule"] == "squaredcos_cap_v2"
        and config["_class_name"].startswith("DPM")
        and np.abs(times - ours[0]).max() == 1
    ):
        return "truncated timestep", 0
    # Euler's Karras timesteps come from float32 logarithms
    if np.abs(times - ours[0]).max() > (2e-2 if (times % 1).any() else 0):
        return f"timesteps {ours[0][:5]}, diffusers has {times[:5]}", 0
    if not np.isfinite(trace).all():
        return "diffusers ends in NaN", 0
    top = np.maximum.accumulate(np.abs(trace).max(axis=(1, 2, 3, 4)))
    error = (np.abs(trace - ours[1]).max(axis=(1, 2, 3, 4)) / np.maximum(top, 1)).max()
    return (None if error <= TOLERANCE else f"samples differ by {error:.2e}"), error


def grid():
    sd = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    predictions = ("epsilon", "v_prediction", "sample")
    for name, has_karras in CLASSES.items():
        for spacing, prediction, karras, steps in itertools.product(
            ("leading", "linspace", "trailing"), predictions, range(1 + has_karras), STEPS
        ):
            config = {
                "_class_name": name,
                **sd,
                "timestep_spacing": spacing,
                "prediction_type": prediction,
                "steps_offset": 1,
            }
            if karras:
                config["use_karras_sigmas"] = True
            if name == "PNDMScheduler":
                config["skip_prk_steps"] = True
            yield config, steps, 0.0


def random_config(rng):
    name = rng.choice(list(CLASSES))
    config = {
        "_class_name": name,
        "num_train_timesteps": rng.choice((1000, 1000, 400, 77)),
        "beta_schedule": rng.choice(("linear", "scaled_linear", "squaredcos_cap_v2")),
        "beta_start": rng.choice((0.0001, 0.00085, 0.002)),
        "beta_end": rng.choice((0.012, 0.02)),
        "prediction_type": rng.choice(("epsilon", "v_prediction", "sample")),
        "timestep_spacing": rng.choice(("leading", "linspace", "trailing")),
        "steps_offset": rng.choice((0, 1, 3)),
    }
    options = {
        "DDIMScheduler": {
            "clip_sample": (False, True),
            "clip_sample_range": (1.0, 2.5),
            "set_alpha_to_one": (False, True),
            "rescale_betas_zero_snr": (False, True),
        },
        "DPMSolverMultistepScheduler": {
            "solver_order": (1, 2, 3),
            "solver_type": ("midpoint", "heun", "bh2"),
            "lower_order_final": (False, True),
            "euler_at_final": (False, True),
            "final_sigmas_type": ("zero", "sigma_min"),
            "use_karras_sigmas": (False, True),
            "rescale_betas_zero_snr": (False, True),
        },
        "EulerDiscreteScheduler": {
            "use_karras_sigmas": (False, True),
            "sigma_min": (None, 0.1),
            "sigma_max": (None, 9.0),
            "final_sigmas_type": ("zero", "zero", "sigma_min"),
            "rescale_betas_zero_snr": (False, True),
        },
        "EulerAncestralDiscreteScheduler": {"rescale_betas_zero_snr": (False, True)},
        "UniPCMultistepScheduler": {
            "solver_order": (1, 2, 3),
            "solver_type": ("bh1", "bh2", "midpoint"),
            "lower_order_final": (False, True),
            "final_sigmas_type": ("zero", "sigma_min"),
            "use_karras_sigmas": (False, True),
            "sigma_min": (None, 0.1),
            "rescale_betas_zero_snr": (False, True),
        },
        "PNDMScheduler": {"skip_prk_steps": (False, True), "set_alpha_to_one": (False, True)},
        "LCMScheduler": {
            "original_inference_steps": (50, 20, 77),
            "clip_sample": (False, True),
            "timestep_scaling": (10.0, 0.01),
            "rescale_betas_zero_snr": (False, True),
        },
    }
    for key, values in options[name].items():
        if rng.random() < 0.7:
            config[key] = rng.choice(values)
    if rng.random() < 0.1:
        n = config["num_train_timesteps"]
        config["trained_betas"] = sorted(rng.uniform(1e-4, 0.03) for _ in range(n))
    steps = rng.choice(STEPS + (4, 5, 14, 15, 25, rng.randint(1, 76), rng.randint(1, 400)))
    return config, steps, rng.choice((0.0, 0.3, 1.0))


# Options that the golden cases leave out.
TABLE = (
    ("DPMSolverMultistepScheduler", 6, 0, {"solver_order": 3}),
    ("DPMSolverMultistepScheduler", 20, 0, {"solver_order": 3, "final_sigmas_type": "sigma_min"}),
    ("DPMSolverMultistepScheduler", 6, 0, {"solver_order": 1, "prediction_type": "sample"}),
    ("DPMSolverMultistepScheduler", 20, 0, {"euler_at_final": True, "solver_type": "heun",
                                            "final_sigmas_type": "sigma_min"}),
    ("UniPCMultistepScheduler", 6, 0, {"solver_order": 1}),
    ("UniPCMultistepScheduler", 6, 0, {"lower_order_final": False, "solver_order": 3,
                                       "final_sigmas_type": "sigma_min"}),
    ("UniPCMultistepScheduler", 6, 0, {"use_karras_sigmas": True, "sigma_min": 0.1,
                                       "final_sigmas_type": "sigma_min"}),
    ("EulerDiscreteScheduler", 6, 0, {"prediction_type": "sample", "timestep_spacing": "leading"}),
    ("EulerDiscreteScheduler", 6, 0, {"use_karras_sigmas": True, "sigma_min": 0.1,
                                      "sigma_max": 9.0, "final_sigmas_type": "sigma_min"}),
    ("EulerAncestralDiscreteScheduler", 6, 0, {"timestep_spacing": "trailing",
                                               "steps_offset": 1}),
    ("DDIMScheduler", 7, 1, {"timestep_spacing": "trailing", "prediction_type": "v_prediction"}),
    ("DDIMScheduler", 3, 0.5, {"num_train_timesteps": 5,
                               "trained_betas": [0.1, 0.15, 0.2, 0.3, 0.4],
                               "clip_sample": False}),
    ("PNDMScheduler", 6, 0, {"prediction_type": "v_prediction", "set_alpha_to_one": True}),
    ("PNDMScheduler", 7, 0, {"skip_prk_steps": True, "timestep_spacing": "linspace"}),
    ("PNDMScheduler", 1, 0, {"skip_prk_steps": True}),
    ("LCMScheduler", 4, 0, {"timestep_scaling": 0.001}),
    ("LCMScheduler", 3, 0, {"original_inference_steps": 20, "clip_sample": True,
                            "prediction_type": "sample"}),
)


def print_table():
    """Sample 1 times the first sigma; output 0.9 cos(i + 1) + 0.1 * scaled sample, noise sin(i + 1)
    at call i. A row: config, steps, eta, last timestep, last sample."""
    calls = np.arange(1, 40).reshape(-1, 1, 1, 1, 1)
    print("/* By diffusers", diffusers.__version__ + ", see tools/check_schedulers.py. */")
    for name, steps, eta, options in TABLE:
        config = {"_class_name": name, **options}
        result = run_theirs(
            config, steps, eta, np.ones((1, 1, 1, 1)), 0.9 * np.cos(calls), np.sin(calls)
        )
        text = json.dumps(json.dumps(config))
        print(f"{{{text},\n {steps}, {eta}, {result[0][-1]:.9g}, {result[1][-1].item():.9g}}},")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--random", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    np.seterr(all="ignore")
    diffusers.utils.logging.set_verbosity_error()
    if args.table:
        print_table()
        return 0
    rng = random.Random(args.seed)
    cases = itertools.chain(grid(), (random_config(rng) for _ in range(args.random)))
    draw = np.random.default_rng(args.seed)
    worst, total, different = 0.0, 0, {}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        lib = build(folder)
        for config, steps, eta in cases:
            sample = draw.standard_normal(SHAPE).astype(np.float32)
            outputs = draw.standard_normal((steps + 10, *SHAPE)).astype(np.float32)
            noise = draw.standard_normal((steps + 10, *SHAPE)).astype(np.float32)
            ours = run_ours(lib, folder, config, steps, eta, sample, outputs, noise)
            theirs = run_theirs(config, steps, eta, sample, outputs, noise)
            what, error = verdict(config, steps, ours, theirs)
            worst, total = max(worst, error), total + 1
            if what is not None:
                config.pop("trained_betas", None)
                different.setdefault(what if what in DECISIONS else "", []).append(
                    f"{what}\n    {steps} steps, eta {eta}: {json.dumps(config)}"
                )
    for key in sorted(different.keys() - {""}):
        print(f"{len(different[key])} x {key}: {DECISIONS[key]}")
    for item in different.get("", []):
        print("DIFFERS " + item)
    print(f"{total} configs, largest error {worst:.2e} of the largest value")
    return 1 if "" in different else 0


if __name__ == "__main__":
    sys.exit(main())

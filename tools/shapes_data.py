"""The shapes data set, made on the fly: captions, and clips to match them.

A clip is 8 frames of one flat-coloured object on a plain background with a slight diagonal shade.  The object
is one of 4 shapes in one of 6 colours and does one of 7 things; 3 backgrounds; 504 captions in all:

    a red circle moving right on a white background
    a green square growing on a black background
    an orange ring standing still on a gray background

Lengths are in units of half the frame's width, so a clip can be drawn at any size.  Numpy only.
"""
import numpy as np

COLOURS = {
    "red": (0.90, 0.12, 0.12), "green": (0.12, 0.70, 0.20), "blue": (0.15, 0.25, 0.90),
    "yellow": (0.95, 0.85, 0.10), "purple": (0.60, 0.15, 0.75), "orange": (0.98, 0.55, 0.08),
}
SHAPES = ("circle", "square", "triangle", "ring")
MOTIONS = ("moving left", "moving right", "moving up", "moving down", "growing", "shrinking", "standing still")
BACKGROUNDS = {"white": 0.95, "black": 0.05, "gray": 0.50}
REVERSED = {"moving left": "moving right", "moving right": "moving left", "moving up": "moving down",
            "moving down": "moving up", "growing": "shrinking", "shrinking": "growing",
            "standing still": "standing still"}
ALL = [(c, s, m, b) for c in COLOURS for s in SHAPES for m in MOTIONS for b in BACKGROUNDS]


def caption(spec, article=None):
    """The caption of a (colour, shape, motion, background); `article` overrides "a" / "an"."""
    c, s, m, b = spec
    a = article or ("an" if c == "orange" else "a")
    return f"{a} {c} {s} {m} on a {b} background"


def vary(spec, rng):
    """A caption in one of the wordings the model is trained on: mostly the plain one."""
    c, s, m, b = spec
    u = rng.random()
    if u < 0.06:                                   # no background named: the model may choose
        return caption(spec).split(" on a ")[0]
    if u < 0.12 and c == "orange":
        return caption(spec, "a")
    if u < 0.16 and m == "standing still":
        return caption((c, s, "still", b))
    if u < 0.20:                                   # the noun phrase without its article
        return caption(spec).split(" ", 1)[1]
    return caption(spec)


def distance(shape, x, y, r):
    """Signed distance (about; negative inside) to a shape of nominal radius r centred at the origin, y down."""
    if shape == "circle":
        return np.hypot(x, y) - r
    if shape == "square":
        return np.maximum(np.abs(x), np.abs(y)) - 0.86 * r
    if shape == "triangle":                        # upright; the centroid is the centre
        return np.maximum(0.866025 * np.abs(x) - 0.5 * y, y) - 0.58 * r
    if shape == "ring":
        return np.abs(np.hypot(x, y) - 0.75 * r) - 0.25 * r
    raise ValueError(shape)


def track(motion, frames, rng):
    """Centre x, y and radius for each frame."""
    s = np.linspace(-0.5, 0.5, frames)
    r = np.full(frames, rng.uniform(0.36, 0.48))
    x = np.full(frames, rng.uniform(-0.08, 0.08))
    y = np.full(frames, rng.uniform(-0.08, 0.08))
    d = rng.uniform(0.6, 0.8)
    if motion == "moving left":
        x = x - d * s
    elif motion == "moving right":
        x = x + d * s
    elif motion == "moving up":
        y = y - d * s
    elif motion == "moving down":
        y = y + d * s
    elif motion in ("growing", "shrinking"):
        a, b = 0.22 * rng.uniform(0.95, 1.05), 0.62 * rng.uniform(0.95, 1.05)
        r = np.linspace(a, b, frames)
        if motion == "shrinking":
            r = r[::-1].copy()
    return x, y, r


def draw(shape, rgb, x, y, r, level, shade, size):
    """Frames (n, size, size, 3), float32 in 0..1, of one object at the given places over the background."""
    g = (np.arange(size, dtype=np.float32) + 0.5) * (2.0 / size) - 1.0
    gx, gy = g[None, None, :], g[None, :, None]
    x, y, r = (np.asarray(v, np.float32)[:, None, None] for v in (x, y, r))
    d = distance(shape, gx - x, gy - y, r)
    cover = np.clip(0.5 - d * (size / 2.0), 0.0, 1.0)[..., None]
    back = np.clip(level + shade * (gx + gy) * 0.5, 0.0, 1.0)[..., None]
    return (back * (1.0 - cover) + np.asarray(rgb, np.float32) * cover).astype(np.float32)


def clip(spec, rng, frames=8, size=64):
    """One clip of a (colour, shape, motion, background)."""
    c, s, m, b = spec
    x, y, r = track(m, frames, rng)
    rgb = np.clip(np.array(COLOURS[c]) + rng.uniform(-0.03, 0.03, 3), 0.0, 1.0)
    return draw(s, rgb, x, y, r, BACKGROUNDS[b], rng.uniform(-0.05, 0.05), size)


def still(rng, size=64):
    """One picture: a random moment of a random clip, (size, size, 3)."""
    c, s, m, b = ALL[int(rng.integers(len(ALL)))]
    x, y, r = track(m, 8, rng)
    k = int(rng.integers(8))
    rgb = np.clip(np.array(COLOURS[c]) + rng.uniform(-0.03, 0.03, 3), 0.0, 1.0)
    return draw(s, rgb, x[k:k + 1], y[k:k + 1], r[k:k + 1], BACKGROUNDS[b], rng.uniform(-0.05, 0.05), size)[0]

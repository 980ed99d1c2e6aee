"""What pixels become when they are taken away.

- zero: 0 in model input (the colour that normalisation maps to 0)
- black, white, a grey in 0..1, or (r, g, b) in 0..1: raw pixels, carried through the normalisation
- mean: the image's own mean colour
- blur: the image itself, Gaussian-blurred (sigma 5 pixels at 224, in proportion)
- impute: what the pixels that stay say of their neighbours, with little noise (ROAD: Rong et al., 2022,
  arXiv 2202.00449, noisy linear imputation): no edge of the mask remains to be seen
"""

from __future__ import annotations

import numpy as np

from onnxplain.errors import ConfigError, InputError
from onnxplain.executor import Array
from onnxplain.metrics.answers import Answers
from onnxplain.preprocess import encode

Fill = str | float | tuple[float, ...]
NAMED: dict[str, float] = {"black": 0.0, "white": 1.0}
FILLS = ("zero", *NAMED, "mean", "blur", "impute")
BLUR = 5 / 224
NOISE = 0.01
"""Of the imputed pixels, as a share of the image's range."""


def read_fill(text: str) -> Fill:
    """Return a fill as typed: a name, a grey in 0..1, or r,g,b; raises ConfigError."""
    if text in FILLS:
        return text
    try:
        numbers = tuple(float(part) for part in text.split(","))
        return checked(numbers[0] if len(numbers) == 1 else numbers)
    except ValueError as error:
        raise _unknown(text) from error


def checked(fill: Fill) -> Fill:
    """Return the fill; raises ConfigError for one that is not known."""
    if isinstance(fill, str):
        if fill not in FILLS:
            raise _unknown(fill)
        return fill
    colour = np.atleast_1d(np.asarray(fill, np.float64))
    if colour.shape not in ((1,), (3,)) or not ((colour >= 0) & (colour <= 1)).all():
        raise _unknown(fill)
    return fill


def kept(answers: Answers, i: int, keep: Array, fill: Fill) -> Array:
    """Return versions [m, ...] of image i: x keep + fill (1 - keep), keep [m, H, W] in 0..1 or bool.

    Whole pixels, all colours alike. Imputation takes bool alone.
    """
    x = answers.x[i : i + 1]
    if fill == "impute":
        return np.concatenate([_imputed(answers, x, one) for one in keep])
    base, shares = base_of(answers, x, fill), answers.over_axes(keep)
    if keep.dtype == bool:  # exact, and three times faster than numpy.where
        mixed: Array = x * shares + base * ~shares
        return mixed
    return _as_fed(x * shares + base * (1 - shares), x)


def base_of(answers: Answers, x: Array, fill: Fill) -> Array:
    """Return what all pixels of x [n, ...] become, of its type; broadcasts to x."""
    answers.size  # noqa: B018  refuses what is no picture
    fill = checked(fill)
    axes = str(answers.source.axes)
    spatial = tuple(axes.index(a) for a in "HW")
    if fill == "zero":
        return np.zeros((1,) * x.ndim, x.dtype)
    if fill == "mean":
        return _as_fed(x.mean(spatial, keepdims=True, dtype=np.float64), x)
    if fill == "blur":
        from scipy.ndimage import gaussian_filter

        sigma = [BLUR * x.shape[k] if k in spatial else 0 for k in range(x.ndim)]
        return _as_fed(gaussian_filter(x.astype(np.float64), sigma), x)
    model = answers.model
    if not model.spec.is_picture:
        raise InputError(
            f"{model.name}: {fill!r} is a colour, and its input is no picture of 1 or 3 channels: "
            'use "zero", "mean" or "blur"'
        )
    colour = np.atleast_1d(NAMED.get(fill, 0.0) if isinstance(fill, str) else np.array(fill, float))
    if len(colour) == 3 and model.preprocess.channels == "BGR":
        colour = colour[::-1]
    if len(colour) == 3 and model.spec.channels == 1:
        colour = colour @ [0.299, 0.587, 0.114]
    shape = [1] * x.ndim
    shape[axes.index("C")] = -1
    pixels = np.broadcast_to(np.reshape(colour, shape), (1, *x.shape[1:]))
    return encode(pixels, model.spec, model.preprocess)


def _imputed(answers: Answers, x: Array, keep: Array) -> Array:
    """Solve for the missing pixels: each is the mean of its neighbours, diagonal ones at half weight."""
    if keep.dtype != bool:
        raise ConfigError('fill "impute" fills in whole pixels: it has no use for shares of them')
    if keep.all() or not keep.any():
        return x if keep.all() else np.broadcast_to(base_of(answers, x, "mean"), x.shape)
    from scipy.sparse import coo_array
    from scipy.sparse.linalg import splu

    axis = str(answers.source.axes).index("C")
    pixels = np.moveaxis(x, axis, -1)[0].astype(np.float64)
    missing = ~keep
    number = np.full(keep.shape, -1)
    number[missing] = np.arange(missing.sum())
    diagonal = np.zeros(missing.sum())
    right = np.zeros((missing.sum(), pixels.shape[-1]))
    rows, columns, weights = [], [], []
    h, w = keep.shape
    for dy, dx in [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b]:
        weight = 1 / 6 if not (dy and dx) else 1 / 12
        here = (slice(max(-dy, 0), h - max(dy, 0)), slice(max(-dx, 0), w - max(dx, 0)))
        there = (slice(max(dy, 0), h - max(-dy, 0)), slice(max(dx, 0), w - max(-dx, 0)))
        mine = missing[here]
        at, other = number[here][mine], number[there][mine]
        diagonal[at] += weight
        known = other < 0
        right[at[known]] += weight * pixels[there][mine][known]
        rows.append(at[~known])
        columns.append(other[~known])
        weights.append(np.full((~known).sum(), -weight))
    n = len(diagonal)
    own = np.arange(n)
    matrix = coo_array(
        (
            np.concatenate([diagonal, *weights]),
            (np.concatenate([own, *rows]), np.concatenate([own, *columns])),
        ),
        shape=(n, n),
    )
    found = pixels.copy()
    noise = np.random.default_rng(0).normal(0, NOISE * np.ptp(pixels), found.shape)
    found[missing] = splu(matrix.tocsc()).solve(right) + noise[missing]
    return _as_fed(np.moveaxis(found[None], -1, axis), x)


def _as_fed(values: Array, x: Array) -> Array:
    """Return numbers in the type of the input; integers are rounded and clipped to their range."""
    if x.dtype.kind in "iu":
        limit = np.iinfo(x.dtype)
        values = np.clip(np.rint(values), limit.min, limit.max)
    return values.astype(x.dtype, copy=False)


def _unknown(fill: object) -> ConfigError:
    return ConfigError(
        f"fill {fill!r} is unknown: choose {', '.join(FILLS)}, a grey in 0..1, or three for r, g, b"
    )

"""Means of gradients at other inputs: SmoothGrad around the input, Integrated Gradients on the way to it."""

from __future__ import annotations

import numpy as np

from onnxplain.errors import ConfigError, InputError
from onnxplain.methods.common import Images, Job, start, whole
from onnxplain.methods.gradient import attribution
from onnxplain.model import Model
from onnxplain.program import Array
from onnxplain.results import Attribution


def smooth_grad(
    model: Model,
    x: Images,
    target: object = None,
    samples: int = 25,
    noise: float = 0.15,
    seed: int = 0,
) -> Attribution:
    """Return the mean gradient over noisy copies of the input.

    noise: standard deviation as a share of each image's value range (the paper suggests .1 to .2). The
    class is that of the clean image. Deterministic for a `seed`, whatever the batch an image is in.

    Raises ConfigError for fewer than one sample or negative noise; otherwise as `gradient`.
    """
    if not (whole(samples, 1) and whole(seed, 0) and 0 <= noise < np.inf):
        raise ConfigError(
            f"smooth_grad needs samples >= 1, noise >= 0 and seed >= 0, got {samples}, {noise}, {seed}"
        )
    job = _start(model, x, target)
    clean = job.feeds[job.source]
    axes = tuple(range(1, clean.ndim))
    sigma = noise * (clean.max(axes, keepdims=True) - clean.min(axes, keepdims=True))
    rng = np.random.default_rng(seed)
    seeds = job.seeds()
    jitters = (rng.standard_normal(clean.shape[1:]).astype(clean.dtype) for _ in range(samples))
    mean = job.mean_gradient((clean + sigma * jitter for jitter in jitters), seeds.seed)
    return attribution(
        job, mean.astype(np.float32), seeds.classes, seeds.scores, "smooth_grad", samples=int(samples),
        noise=float(noise), seed=int(seed), paper="Smilkov et al., 2017, arXiv 1706.03825",
    )  # fmt: skip


def integrated_gradients(
    model: Model, x: Images, target: object = None, baseline: Array | None = None, steps: int = 50
) -> Attribution:
    """Return (x - baseline) times the mean gradient on the straight path between them (midpoint rule).

    baseline: broadcastable to x, in model-input units; None is zeros. Values sum to
    score(x) - score(baseline) as steps grow; the difference is in meta["residual"], one per image.

    Raises ConfigError for fewer than one step, InputError for a baseline that does not fit.
    """
    if not whole(steps, 1):
        raise ConfigError(f"integrated_gradients needs steps >= 1, got {steps}")
    job = _start(model, x, target)
    end = job.feeds[job.source]
    begin = _baseline(baseline, end)
    seeds = job.seeds()
    shares = (np.asarray((k + 0.5) / steps, end.dtype) for k in range(steps))
    mean = job.mean_gradient((begin + (end - begin) * share for share in shares), seeds.seed)
    values = ((end - begin) * mean).astype(np.float32)
    explained = values.reshape(len(values), -1).sum(1, dtype=np.float64)
    residual = seeds.scores - job.scores(begin, seeds.seed) - explained
    return attribution(
        job, values, seeds.classes, seeds.scores, "integrated_gradients", steps=int(steps),
        baseline="zeros" if baseline is None else "given", residual=[float(r) for r in residual],
        paper="Sundararajan et al., 2017, arXiv 1703.01365, eq. 3",
    )  # fmt: skip


def _start(model: Model, x: Images, target: object) -> Job:
    job = start(model, x, target)
    source = job.model.graph.source
    if source.dtype.kind != "f":
        raise InputError(
            f"input {source.name!r} holds {source.dtype}, which has no values between two pixels: "
            "use gradient or saliency on this model"
        )
    return job


def _baseline(baseline: Array | None, x: Array) -> Array:
    given = np.asarray(0 if baseline is None else baseline)
    if given.dtype.kind not in "fiu":
        raise InputError(f"the baseline must be numbers, got {given.dtype}")
    try:
        begin = np.broadcast_to(given.astype(x.dtype), x.shape)
    except ValueError as error:
        raise InputError(f"the baseline's shape does not fit the input's, {x.shape}") from error
    if not np.isfinite(begin).all():
        raise InputError("the baseline holds NaN or infinite numbers")
    return begin

"""Signed saliency: which pixels, made brighter or darker, speak for the class, and for it alone.

Llorente, Boal & Sanchez-Ubeda, "A matter of attitude", arXiv 2309.12913. With g_c = d logit_c / d pixel and
c^ the explained class, per element, then the maximum over colours:

    absolute  |g_c^|                     positive  relu(g_c^)            negative  relu(-g_c^)
    active    |g_c^| where g_c^ > g_c for every other class c
    inactive  |g_c^| where g_c^ < g_c for every other class c   (the authors' code; their eq. 6 degenerates)
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np

from onnxplain.errors import ConfigError, InputError, TargetError
from onnxplain.executor import Array
from onnxplain.graph.compute import NUMPY
from onnxplain.methods.common import Images, Job, join, start
from onnxplain.model import Model
from onnxplain.preprocess import pixel_scale
from onnxplain.program import Linearized
from onnxplain.results import Saliency
from onnxplain.target import Seeds

Kind = Literal["absolute", "positive", "negative", "active", "inactive"]
Classes = Literal["auto", "all"]
AUTO_CLASSES = 20
"""With more classes than this, "auto" compares the explained class with the highest logits only [ours]."""
_END = np.iinfo(np.int64).max
PAPER = "Llorente, Boal & Sanchez-Ubeda, 2023, arXiv 2309.12913"


def saliency(
    model: Model,
    x: Images,
    target: object = None,
    kind: Kind = "positive",
    classes: Classes = "auto",
    space: Literal["auto", "pixel", "input"] = "auto",
) -> Saliency:
    """Return a saliency map per image, values [N, H, W] >= 0, not scaled (`.heatmap()` scales to 0..1).

    target: None (the predicted class, as in the paper), a class, one class per image; active and inactive
    need a class. classes: which others active and inactive compare with: "all", or "auto": the 20
    highest logits when there are more (meta says so). space: "pixel" measures the gradient per raw pixel
    in 0..1 (carries the normalisation through [ours]); "input" per model-input unit; "auto" is "pixel" for
    picture inputs. Signs and masks are the same in both, the maximum over colours may not be.

    Raises ConfigError (unknown kind, option), InputError, TargetError (active/inactive without a class, or
    with a single class).
    """
    for name, value, allowed in (
        ("kind", kind, get_args(Kind)),
        ("classes", classes, get_args(Classes)),
        ("space", space, ("auto", "pixel", "input")),
    ):
        if value not in allowed:
            raise ConfigError(f"saliency {name} {value!r} is unknown: choose {', '.join(allowed)}")
    job = start(model, x, target)
    source = job.model.graph.source
    if source.axes is None:
        raise InputError(
            f"{model.name}: input {source.name!r} is not a picture; use onnxplain.gradient for its values"
        )
    scale = input_scale(job.model, space)
    parts, compared = [], 0
    compares = kind in ("active", "inactive")
    batches = job.linearize(source.name, ahead=not compares, most=1 if compares else None)
    for linearized, seeds in batches:
        if compares:
            signed, compared = _against_others(job, linearized, seeds, kind, classes)
        else:
            signed = linearized.backward({job.output: seeds.seed})[source.name]
        values = strongest(NUMPY, signed * scale, kind, source.axes.index("C"))
        parts.append((values, seeds.classes, seeds.scores))
    values, explained, scores = join(parts)
    more: dict[str, Any] = {"classes_compared": compared} if compared else {}
    return Saliency(
        values=values,
        kind=kind,
        classes=explained,
        scores=scores,
        meta=job.meta(
            f"saliency:{kind}",
            job.program(source.name),
            space="input" if isinstance(scale, float) else "pixel",
            paper=PAPER,
            **more,
        ),
    )


def input_scale(model: Model, space: str = "auto") -> Array | float:
    """Return what a gradient is multiplied by: 1.0, or d input / d pixel, which broadcasts to [N, ...]."""
    if space == "input" or (space == "auto" and not model.spec.is_picture):
        return 1.0
    return pixel_scale(model.spec, model.preprocess)


def strongest(op: Any, signed: Any, kind: str, channel_axis: int) -> Any:
    """Return the maximum over colours of what `kind` keeps of a signed gradient [N, H, W].

    `op` is NUMPY, or an Emitter that writes it into a file.
    """
    if kind == "positive":
        kept = op.Relu(signed)
    elif kind == "negative":
        kept = op.Relu(op.Neg(signed))
    else:
        kept = op.Abs(signed)
    return op.ReduceMax(kept, [channel_axis], keepdims=0)


def _against_others(
    job: Job, linearized: Linearized, seeds: Seeds, kind: str, classes: str
) -> tuple[Array, int]:
    """Return the gradient [1, ...] where it beats (active) or trails (inactive) every other class's, else 0.

    One forward of one image, then backward passes over all classes.
    """
    logits = linearized[job.output]
    if logits.ndim != 2 or (seeds.classes < 0).any():
        raise TargetError(f"{kind} saliency compares classes: give a class of an output [N, C]")
    if logits.shape[1] < 2:
        raise TargetError(f"{kind} saliency compares classes, and this model has only one")
    explained, *others = _compared(logits[0], int(seeds.classes[0]), classes)
    mine, low, high = _extremes(linearized, job.model.seeds_at_once, explained, others)
    wins = mine > high if kind == "active" else mine < low
    return np.where(wins, mine, 0)[None], 1 + len(others)


def _extremes(
    linearized: Linearized, size: int, explained: int, others: list[int]
) -> tuple[Array, Array, Array]:
    """Return the gradient of one class, and the least and largest gradient of the others.

    A thousand classes cost no more memory than `size` of them.
    """
    eye = np.eye(linearized[linearized.program.outputs[0]].shape[1], dtype=np.float32)
    first = [explained, *others[: size - 1]]
    found = linearized.reduced(eye[first], first_and_extremes if len(first) > 1 else extremes)
    if len(first) == 1:
        mine = found["least"]
        low, high = np.full_like(mine, np.inf), np.full_like(mine, -np.inf)
    else:
        mine, low, high = found["first"], found["least"], found["largest"]
    for begin in range(size - 1, len(others), size):
        found = linearized.reduced(eye[others[begin : begin + size]], extremes)
        low, high = np.minimum(low, found["least"]), np.maximum(high, found["largest"])
    return mine, low, high


def extremes(op: Any, signal: Any, value: Any) -> dict[str, Any]:
    """Return the least and largest signal over all seeds."""
    least = op.ReduceMin(signal, [0], keepdims=0)
    return {"least": least, "largest": op.ReduceMax(signal, [0], keepdims=0)}


def first_and_extremes(op: Any, signal: Any, value: Any) -> dict[str, Any]:
    """Return the first signal, and the least and largest of the others."""
    first = op.ReduceMax(op.Slice(signal, [0], [1], [0]), [0], keepdims=0)
    return {"first": first, **extremes(op, op.Slice(signal, [1], [_END], [0]), value)}


def _compared(logits: Array, explained: int, classes: str) -> list[int]:
    """Return the classes to compare, the explained one first."""
    others = [int(c) for c in np.argsort(-logits, kind="stable") if c != explained]
    return [explained, *(others if classes == "all" else others[: AUTO_CLASSES - 1])]

"""What happens if the pixels that a map found are blackened, whitened, altered? Foretold and observed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxplain.errors import ConfigError, InputError
from onnxplain.executor import Array
from onnxplain.methods.common import Images, start
from onnxplain.methods.registry import explain, method_name
from onnxplain.metrics.answers import Answers
from onnxplain.metrics.curves import top_pixels
from onnxplain.metrics.fills import Fill, checked, kept
from onnxplain.model import Model
from onnxplain.results.occlusion import Occlusion

FILLS: tuple[Fill, ...] = ("black", "white", "blur")
CLASSES = 20
"""Margins are given to so many classes, those of the highest logits."""


def occlude(
    model: Model,
    x: Images,
    target: object = None,
    method: str = "active",
    share: float = 0.1,
    fills: Sequence[Fill] = FILLS,
    classes: int = CLASSES,
) -> Occlusion:
    """Alter the top pixels of one image's map, and compare what comes with what the gradient foretold.

    x: [1, ...]. target: None (the predicted class) or a class. method: any of
    `onnxplain.methods.registry.METHODS`; signed ones have their colours: black is for positive and active,
    white for negative and inactive. share: of the pixels, above 0 and below 1 (`top_pixels`; what a map does
    not mark stays). fills: see `onnxplain.metrics.fills`. classes: how many, those of the highest logits, get
    a margin. First order: sum over altered elements of d logit / d input times the change of the input.

    Raises ConfigError (method, share, fill), InputError (not one image; a map that marks nothing),
    TargetError. Source: Llorente, Boal & Sanchez-Ubeda, 2023, arXiv 2309.12913, the question; the
    first-order account is ours.
    """
    kind = method_name(method)
    if not 0 < share < 1:
        raise ConfigError(f"share = {share!r} must be above 0 and below 1")
    if not fills or classes < 1:
        raise ConfigError("give one fill or more, and compare one class or more")
    fills = [checked(fill) for fill in fills]
    answers = Answers(model, x, target)
    if len(answers) != 1:
        raise InputError(f"occlude takes one image, got {len(answers)}")
    found = explain(answers.model, answers.feeds, kind, answers.classes)
    heat = found.heatmap()[0]
    mask = top_pixels(heat, (share,))[0]
    if not mask.any():
        raise InputError(f"the {kind} map of this image marks no pixel: there is nothing to alter")
    images = np.concatenate([kept(answers, 0, ~mask[None], fill) for fill in fills])
    z, after = answers.logits[0], answers.to(0, images)
    c = int(answers.classes[0])
    compared = [c, *(int(k) for k in np.argsort(-z, kind="stable") if k != c)][:classes]
    gradients = _gradients(answers, compared)
    steps = images.astype(np.float64) - answers.x.astype(np.float64)
    told = steps.reshape(len(steps), -1) @ gradients.reshape(len(compared), -1).T
    tops = np.array([z.argmax(), *after.argmax(1)])
    return Occlusion(
        method=kind,
        share=float(share),
        mask=mask,
        map=heat,
        fills=tuple(map(str, fills)),
        images=images.astype(np.float32),
        classes=np.array(compared),
        labels=tuple(model.label(k) for k in compared),
        logits=z[compared],
        observed=after[:, compared] - z[compared],
        foretold=told,
        answers=tops,
        answer_labels=tuple(model.label(int(k)) for k in tops),
        confidence=np.concatenate([answers.confidence, answers.probability(after, c)]),
        meta={**found.meta, "occluded_by": kind},
    )


def _gradients(answers: Answers, classes: Sequence[int]) -> Array:
    """Return d logit / d input of one image for several classes, float64 [K, ...]: one forward."""
    job = start(answers.model, answers.feeds, answers.classes)
    ((linearized, _),) = job.linearize(job.source)
    eye = np.eye(answers.logits.shape[1], dtype=np.float32)[list(classes)]
    return linearized.backward({job.output: eye})[job.source].astype(np.float64)

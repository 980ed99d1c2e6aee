"""Methods x metrics x models over a data set: which explanation is best for this model, and how surely?"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal
from weakref import WeakKeyDictionary

import numpy as np

from onnxplain.dataset import Batch, Data, Job, Partial, Run
from onnxplain.dataset.annotations import Annotations, open_annotations
from onnxplain.errors import ConfigError
from onnxplain.executor import Array
from onnxplain.methods.cam import CAMS
from onnxplain.methods.registry import explain, method_name
from onnxplain.metrics.answers import Answers
from onnxplain.metrics.case import Case, Explain
from onnxplain.metrics.registry import DEFAULT, METRICS, metric_name
from onnxplain.model import Model
from onnxplain.results.evaluation import Evaluation

METHODS = ("lift_cam", "grad_cam", "positive", "active")
Classes = Literal["predicted", "label"]
_WARM: WeakKeyDictionary[Model, set[str]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Evaluating(Job):
    """A row per image; merging is concatenation."""

    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    classes: Classes
    layer: str | None
    annotations: Annotations | None

    name: ClassVar[str] = "evaluate"

    def map(self, models: Sequence[Model], batch: Batch) -> Partial:
        """Return the values of a batch."""
        count, shape = len(batch.numbers), (len(models), len(self.methods))
        found: Partial = {
            "values": np.full((count, *shape, len(self.metrics)), np.nan),
            "ms": np.zeros((count, *shape)),
            "forward_ms": np.zeros((count, len(models))),
            "classes": np.full((count, len(models)), -1),
            "images": np.array(batch.names, np.str_),
        }
        # An image without a label has no value where labels are explained: it has no class to explain.
        rows = (
            np.arange(count) if self.classes == "predicted" else np.flatnonzero(batch.labels >= 0)
        )
        for m, (model, x) in enumerate(zip(models, batch.inputs, strict=True)):
            if len(rows):
                self._judge(model, x, batch, rows, m, found)
        return found

    def merge(self, a: Partial, b: Partial) -> Partial:
        """Return the rows of both."""
        return {name: np.concatenate([a[name], b[name]]) for name in a}

    def key(self) -> Any:
        """Return all settings."""
        known = None if self.annotations is None else self.annotations.key()
        return [self.methods, self.metrics, self.classes, self.layer, known]

    def _judge(
        self, model: Model, x: Array, batch: Batch, rows: Array, m: int, found: Partial
    ) -> None:
        asked = None if self.classes == "predicted" else batch.labels[rows]
        answers = Answers(model, x[rows], asked)
        names = [batch.names[i] for i in rows]
        masks, known = self._masks(model, names, answers.classes)
        found["classes"][rows, m] = answers.classes
        found["forward_ms"][rows, m] = _timed(partial(answers.to_each, answers.x))[1] / len(rows)
        for e, method in enumerate(self.methods):
            how = partial(_explained, method=method, layer=self.layer)
            _warm_up(answers, method, how)
            case, ms = _timed(partial(Case.of, answers, how))
            found["ms"][rows, m, e] = ms / len(rows)
            case = replace(case, masks=masks)
            for k, metric in enumerate(self.metrics):
                needs = METRICS[metric].needs
                if needs == "weights" and getattr(case.explanation, "weights", None) is None:
                    continue
                values = METRICS[metric].of(case)
                found["values"][rows, m, e, k] = (
                    np.where(known, values, np.nan) if needs == "masks" else values
                )

    def _masks(
        self, model: Model, names: Sequence[str], classes: Array
    ) -> tuple[Array | None, Array]:
        """Return masks [n, H, W] of where objects are, as the model sees them, and which images have some."""
        if self.annotations is None:
            return None, np.zeros(len(names), bool)
        size = model.preprocess.target_size(model.spec)
        pairs = zip(names, classes.tolist(), strict=True)
        found = [self.annotations.mask(name, model.label(c), size, model) for name, c in pairs]
        masks = np.stack(found)
        return masks, np.asarray(masks.any((1, 2)))


def evaluate(
    model: Model | Sequence[Model],
    data: Data,
    methods: Sequence[str] = METHODS,
    metrics: Sequence[str] = DEFAULT,
    run: Run | None = None,
    classes: Classes = "predicted",
    layer: str | None = None,
    boxes: Annotations | Mapping[str, Any] | str | Path | None = None,
) -> Evaluation:
    """Judge methods by metrics over a data set, for one model or several.

    methods: names as in `onnxplain.methods.registry.METHODS`; metrics: as in `onnxplain.metrics.METRICS`.
    run: where and in what pieces, see `onnxplain.dataset.Run`; with `Run(cache=...)` it goes on where it was
    interrupted. classes: whether maps explain the predicted class or the image's label. layer: of class
    activation maps. boxes: where objects are, for pointing_game, energy_inside and iou: what
    `onnxplain.dataset.annotations.open_annotations` takes, boxes or masks; those with a label count where it
    is the class explained, and images without one have no value there.

    Raises ConfigError (unknown method, metric or setting), InputError, and what methods and metrics raise.
    """
    models = (model,) if isinstance(model, Model) else tuple(model)
    if classes not in ("predicted", "label"):
        raise ConfigError(f"classes {classes!r} is unknown: choose predicted or label")
    kinds, named = _names(methods, method_name, "method"), _names(metrics, metric_name, "metric")
    needing = [name for name in named if METRICS[name].needs == "masks"]
    if needing and boxes is None:
        raise ConfigError(f"{', '.join(needing)} need to know where the object is: give boxes")
    if not set(kinds) & set(CAMS) and (only := [n for n in named if METRICS[n].needs == "weights"]):
        raise ConfigError(f"{', '.join(only)} judge class activation maps, and no method is one")
    known = open_annotations(boxes) if boxes is not None and needing else None
    job = Evaluating(kinds, named, classes, layer, known)
    found = (run or Run()).over(data, models, job)
    values = found.partial["values"]
    return Evaluation(
        models=_distinct([Path(m.name).name for m in models]),
        methods=kinds,
        metrics=named,
        better=tuple(METRICS[name].better for name in named),
        images=tuple(found.partial["images"].tolist()),
        values=np.nan_to_num(values, nan=0.0),
        present=np.isfinite(values),
        classes=found.partial["classes"],
        ms=found.partial["ms"],
        forward_ms=found.partial["forward_ms"],
        meta={
            "data": found.meta,
            "classes": classes,
            "layer": layer,
            "models": [m.meta("evaluate") for m in models],
        },
    )


def _explained(model: Model, x: Any, classes: Array, method: str, layer: str | None) -> Any:
    return explain(model, x, method, classes, layer)


def _warm_up(answers: Answers, method: str, how: Explain) -> None:
    """Run a method once per model before its time is taken: graphs are written and sessions made then."""
    done = _WARM.setdefault(answers.model, set())
    if method not in done:
        how(answers.model, answers.model.rows(answers.feeds, [0]), answers.classes[:1])
        done.add(method)


def _timed(call: Any) -> tuple[Any, float]:
    """Return what a call returns, and the milliseconds it took."""
    begun = time.perf_counter()
    found = call()
    return found, 1000 * (time.perf_counter() - begun)


def _names(given: Sequence[str], name: Any, what: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(name(one) for one in given))
    if not found:
        raise ConfigError(f"name one {what} or more")
    return found


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Return names, those that come again numbered."""
    return tuple(n if names.count(n) == 1 else f"{n} ({i + 1})" for i, n in enumerate(names))

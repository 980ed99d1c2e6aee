"""What docs/coverage.md says of a file, and the tests of the zoo assert."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import onnxplain as ox
from onnxplain.backward.variants import RESCALE
from tests.oracle import Oracle, gradient_error
from tests.quantised import held_oracle

ZOO = Path(__file__).resolve().parent / "models"
Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]


@dataclass(frozen=True)
class Subject:
    """A file with inputs, and the outputs it must give (the framework's, or plain onnxruntime's).

    `held`: its gradient is judged at onnxruntime's rounding (`tests/quantised.py`), as deep nets need.
    """

    path: Path
    style: str
    inputs: Arrays
    outputs: Arrays
    maker: str = ""
    peer: bool = False
    twin: Path | None = None
    held: bool = False

    @cached_property
    def model(self) -> ox.Model:
        """The loaded file."""
        return ox.load(self.path, device="cpu", threads=1)

    @cached_property
    def proto(self) -> onnx.ModelProto:
        """The file as onnx reads it."""
        return onnx.load(self.path)

    def images(self, count: int) -> Arrays:
        """Return feeds of `count` images: those of the file, then paler ones."""
        feeds = {}
        for name, x in self.inputs.items():
            rows = [*x, *((one * 0.75).astype(x.dtype) for one in x)]
            rows += [(one * 0.5).astype(x.dtype) for one in x]
            feeds[name] = np.stack(rows[:count])
        return feeds


def forward_error(subject: Subject) -> float:
    """Return the largest difference of any output, as a share of the largest value (at least 1)."""
    model, feeds = subject.model.fit(subject.inputs)
    parts = [model.values(rows, tuple(subject.outputs)) for rows in model.batches(feeds)]
    worst = 0.0
    for name, expected in subject.outputs.items():
        found = np.concatenate([part[name] for part in parts])
        assert found.shape == expected.shape, f"{name}: {found.shape} instead of {expected.shape}"
        error = np.abs(found.astype(np.float64) - expected.astype(np.float64)).max()
        worst = max(worst, float(error / max(1.0, np.abs(expected).max())))
    return worst


def gradient_errors(
    subject: Subject, wrt: str | None = None, output: str | None = None
) -> Iterator[float]:
    """Yield each image's estimated relative error of the gradient, by float64 central differences.

    Explained is the largest element of the logit (or of a named output).
    """
    feeds = subject.images(3)
    source = wrt or subject.model.graph.source.name
    target = ox.Target(output=output)
    found = ox.gradient(subject.model, feeds, target=target, wrt=wrt).values
    assert found.shape == feeds[source].shape
    for i, g in enumerate(found):
        one = {k: v[i : i + 1] for k, v in feeds.items()}
        others = {k: v for k, v in one.items() if k != source}
        oracle = (
            held_oracle(subject.model, one)
            if subject.held
            else Oracle(subject.proto, others, output)
        )
        at = _largest(subject, one, output)
        oracle.logits(one[source])  # the run at which quantisers are held

        def score(v: Array, oracle: Oracle = oracle, at: int = at) -> float:
            return float(oracle.logits(v[None]).reshape(-1)[at])

        yield gradient_error(score, one[source][0], g)


def _largest(subject: Subject, one: Arrays, output: str | None) -> int:
    model, feeds = subject.model.fit(one)
    logits = {logit.output: logit.tensor for logit in model.graph.logits}
    name = model.graph.logit.tensor if output is None else logits[output]
    return int(model.values(feeds, (name,))[name].argmax())


def batch_error(subject: Subject) -> float:
    """Return how far the gradients of three images at once are from those of each alone, relative."""
    feeds = subject.images(3)
    together = ox.gradient(subject.model, feeds).values
    rows = [{k: v[i : i + 1] for k, v in feeds.items()} for i in range(3)]
    alone = np.concatenate([ox.gradient(subject.model, row).values for row in rows])
    return float(np.linalg.norm(together - alone) / np.linalg.norm(alone))


def lift_residual(whole: ox.Model, inputs: Arrays) -> float:
    """Return |sum of LIFT-CAM's weights - (F(A) - F(0))| as a share of |F(A)| + |F(0)|, the worst image.

    Raises LayerError or UnsupportedOpError with the reason where there is no map.
    """
    worst = 0.0
    for i in range(len(next(iter(inputs.values())))):
        model, feeds = whole.fit({k: v[i : i + 1] for k, v in inputs.items()})
        record = ox.cam(whole, feeds, kind="lift_cam")
        name, logit = record.layer, model.graph.logit.tensor
        program = model.program((logit,), (name,), RESCALE)
        a = model.values(feeds, (name,))[name]
        beside = {k: v for k, v in feeds.items() if k in program.pair.beside}
        top, base = (
            program.tail({**beside, name: at})[logit].reshape(-1) for at in (a, np.zeros_like(a))
        )
        k = int(record.classes[0]) if record.classes[0] >= 0 else int(top.argmax())
        gap = abs(float(record.weights.sum()) - float(top[k] - base[k]))
        worst = max(worst, gap / float(abs(top[k]) + abs(base[k])))
    return worst


def rank_correlation(subject: Subject) -> float:
    """Return Spearman's correlation of the gradient with that of the float twin, the lowest image's."""
    assert subject.twin is not None
    twin = ox.load(subject.twin, device="cpu", threads=1)
    ours, theirs = (ox.gradient(m, subject.inputs, target=0).values for m in (subject.model, twin))
    ranks = [[one.reshape(-1).argsort().argsort() for one in g] for g in (ours, theirs)]
    return min(float(np.corrcoef(a, b)[0, 1]) for a, b in zip(*ranks, strict=True))


def zoo() -> Iterator[Subject]:
    """Yield the committed files."""
    index = json.loads((ZOO / "index.json").read_text(encoding="utf-8"))
    for name, entry in index.items():
        with np.load(ZOO / f"{name}.npz", allow_pickle=False) as arrays:
            inputs = {k[3:]: arrays[k] for k in arrays if k.startswith("in.")}
            outputs = {k[4:]: arrays[k] for k in arrays if k.startswith("out.")}
        twin = ZOO / f"{entry['float_twin']}.onnx" if "float_twin" in entry else None
        path = ZOO / f"{name}.onnx"
        yield Subject(path, entry["what"], inputs, outputs, entry["maker"], entry["peer"], twin)

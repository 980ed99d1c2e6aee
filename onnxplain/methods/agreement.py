"""How far layers agree with the decision, over a data set: accuracy of readouts, and decision depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from onnxplain.dataset import Batch, Data, Job, Partial, Run
from onnxplain.methods.readouts import PAPER, check_readouts, features_of
from onnxplain.model import Model
from onnxplain.results import LayerAgreement, Readouts
from onnxplain.results.predictions import decided, depths, entropies
from onnxplain.results.records import probabilities


def layer_agreement(
    model: Model, data: Data, readouts: Readouts, run: Run | None = None
) -> LayerAgreement:
    """Return how often each layer's readout decides as the model does, over a data set, in one pass.

    data: see `onnxplain.dataset.open_data`; where it has labels, accuracies are counted, too. readouts: of
    this model (`fit_readouts`), best fitted to other images. Source: ours, after the paper's idea.

    Raises InputError (nothing of use), ConfigError (readouts of another model), TargetError (no classes).
    """
    check_readouts(model, readouts)
    found = (run or Run()).over(data, model, Agreeing(readouts))
    sums = found.partial
    images, labelled = int(sums["images"]), int(sums["labelled"])
    more: dict[str, Any] = {}
    if labelled:
        more = {
            "accuracy": sums["correct"] / labelled,
            "final_accuracy": float(sums["depth_correct"].sum() / labelled),
            "depth_correct": sums["depth_correct"],
            "depth_labelled": sums["depth_labelled"],
        }
    return LayerAgreement(
        layers=readouts.layers,
        agreement=sums["agree"] / images,
        p=sums["p"] / images,
        entropy=sums["entropy"] / images,
        depth=sums["depth"],
        r2=readouts.r2,
        images=images,
        labelled=labelled,
        **more,
        meta=model.meta("layer_agreement", paper=PAPER, **found.meta),
    )


@dataclass(frozen=True, eq=False)
class Agreeing(Job):
    """Counts and sums of what the readouts of all layers say."""

    readouts: Readouts
    name: ClassVar[str] = "agreement"

    def map(self, models: Sequence[Model], batch: Batch) -> Partial:
        """Return the sums over a batch."""
        model, feeds = models[0].fit(batch.x)
        logit = model.graph.logit
        layers = [model.layer(name) for name in self.readouts.layers]
        zhat, final = [], []
        for phis, values in features_of(model, feeds, layers, [logit.predicted]):
            pairs = zip(phis, layers, strict=True)
            each = [(phi, *self.readouts.of(layer.name)) for phi, layer in pairs]
            zhat.append(np.stack([phi @ w + b for phi, w, b in each]))
            final.append(values[logit.predicted])
        return _sums(np.concatenate(zhat, 1), np.concatenate(final), batch.labels, logit.activation)

    def merge(self, a: Partial, b: Partial) -> Partial:
        """Return the sums of both."""
        return {name: np.asarray(a[name] + b[name]) for name in a}

    def key(self) -> Any:
        """Return what the readouts are."""
        return self.readouts.digest()


def _sums(logits: Any, final: Any, labels: Any, activation: str) -> Partial:
    """Return what is counted of layers' logits [L, N, C], the model's [N, C] and labels [N], -1: unknown."""
    decision, mine = decided(final), final.argmax(1)
    # Of one class alone a label does not say whether it is there or not.
    known = labels >= 0 if final.shape[1] > 1 else np.zeros(len(labels), bool)
    agrees = decided(logits) == decision
    p = probabilities(logits, activation)
    depth, bins = depths(agrees), len(logits) + 1
    right = known & (decision == labels)
    return {
        "images": np.array(len(labels)),
        "labelled": np.array(known.sum()),
        "agree": agrees.sum(1),
        "correct": (known & (decided(logits) == labels)).sum(1),
        "p": p[:, np.arange(len(mine)), mine].sum(1),
        "entropy": entropies(p, activation).sum(1),
        "depth": np.bincount(depth, minlength=bins),
        "depth_labelled": np.bincount(depth[known], minlength=bins),
        "depth_correct": np.bincount(depth[right], minlength=bins),
    }

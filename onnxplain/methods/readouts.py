"""Linear readouts: what the logits are, as far as the mean features of a layer tell (METHODS.md, 4).

One pass over reference images, in closed form, in float64:

    W = (P'P + ridge tr(P'P)/K I)^-1 P'Z,   b = mean z - (mean phi) W

with P the features phi and Z the model's own logits, both centred. No label is needed. The ridge is chosen
per layer by generalised cross-validation, unless it is given: with few references for many channels, one
for all layers fits noise in some of them (docs/interpreter.md has the figures).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import numpy as np

from onnxplain.dataset import Batch, Data, Job, Partial, Run
from onnxplain.errors import ConfigError, InputError
from onnxplain.executor import Array
from onnxplain.feeds import Feeds
from onnxplain.graph.layers import Layer
from onnxplain.methods.features import classifying, feature_layers, pooled
from onnxplain.model import Model
from onnxplain.results import Readouts
from onnxplain.results.values import frozen

PAPER = "Yang et al., 2023, arXiv 2211.00185 (formulas ours)"
RIDGES = tuple(10.0**power for power in range(-6, 3))
"""Those to choose from, relative to the mean variance of a feature."""
HELD_OUT = 5
"""One image of so many is held out, by a hash of its content: the same ones in any order."""
FEW = 8
"""Images whose activations of all layers are in memory at once."""
FIT, HELD = "fit", "held"


def fit_readouts(
    model: Model,
    data: Data,
    layers: Sequence[Layer | str] | None = None,
    ridge: float | None = None,
    run: Run | None = None,
) -> Readouts:
    """Fit a linear readout from the mean features of each layer to the model's own logits.

    data: reference images, see `onnxplain.dataset.open_data`; labels are not looked at. layers: None takes
    those that hold features at each depth. ridge: >= 0, relative to the mean variance of a feature; 0 gives
    the shortest of the best solutions, None the best of `RIDGES` for each layer. Every fifth reference
    is held out to measure R2. Memory depends on channels and classes, not on the number of references:
    16 K (K + C) bytes per layer and worker.

    Raises ConfigError (ridge), LayerError, InputError (fewer than two references to fit to), TargetError (no
    logits [N, C]).
    """
    if ridge is not None and not (np.isfinite(ridge) and ridge >= 0):
        raise ConfigError(f"ridge = {ridge!r} must be a number, 0 or more")
    classifying(model)
    names = tuple(layer.name for layer in feature_layers(model, layers))
    found = (run or Run()).over(data, model, Fitting(names))
    parts = {part: _joints(found.partial, part, len(names)) for part in (FIT, HELD)}
    fitted, held_out = (int(parts[part][0].count) for part in (FIT, HELD))
    if fitted < 2:
        raise InputError(
            f"{found.data}: of {found.used} references {fitted} are to be fitted to and {held_out} held "
            "out: give more, some hundreds"
        )
    solved = [solve(joint, ridge) for joint in parts[FIT]]
    return Readouts(
        layers=names,
        weights=tuple(w for w, _, _ in solved),
        means=tuple(joint.mean for joint in parts[FIT]),
        biases=np.stack([b for _, b, _ in solved]),
        r2=tuple(r_squared(j, w, b) for j, (w, b, _) in zip(parts[HELD], solved, strict=True)),
        images=fitted,
        held_out=held_out,
        ridges=tuple(chosen for _, _, chosen in solved),
        meta=model.meta("fit_readouts", paper=PAPER, fed=fed(model), **found.meta),
    )


def check_readouts(model: Model, readouts: Readouts) -> None:
    """Raise ConfigError for the readouts of another model, or altered ones."""
    same = readouts.meta.get("sha256") == model.sha256
    if same:
        sizes = [(model.layer(name).channels, model.classes) for name in readouts.layers]
        same = sizes == [w.shape for w in readouts.weights]
    if not same:
        raise ConfigError(
            f"these readouts were fitted to another model ({readouts.meta.get('model')}), not to "
            f"{model.name}: fit them again"
        )


def fed(model: Model) -> dict[str, Any]:
    """Return how pictures are fed to a model, JSON-able, without where that was said."""
    found: dict[str, Any] = frozen({**asdict(model.preprocess), "source": ""}, "preprocess")
    return found


def features_of(
    model: Model, feeds: Feeds, layers: Sequence[Layer], more: Sequence[str] = ()
) -> Iterator[tuple[list[Array], dict[str, Array]]]:
    """Yield, a few images at a time, phi [n, K] of each layer, and `more` tensors by name."""
    names = tuple(dict.fromkeys((*(layer.name for layer in layers), *more)))
    for rows in model.batches(feeds, FEW):
        values = model.values(rows, names)
        yield [pooled(values[layer.name], layer) for layer in layers], {n: values[n] for n in more}


# --- the pass -----------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Joint:
    """Of n pairs (phi [K], z [C]) with means `mean` and `mean_z`, and d = value - mean: sums of products.

    pp [K, K] = sum d_phi d_phi', pz [K, C] = sum d_phi d_z', zz [C] = sum d_z^2; float64.
    """

    count: Array
    mean: Array
    mean_z: Array
    pp: Array
    pz: Array
    zz: Array

    @classmethod
    def of(cls, phi: Array, z: Array) -> Joint:
        """Return the sums of rows phi [n, K], z [n, C]; n may be 0."""
        count = np.array(len(phi), np.int64)
        mean, mean_z = (rows.sum(0) / max(len(rows), 1) for rows in (phi, z))
        p, dz = phi - mean, z - mean_z
        return cls(count, mean, mean_z, p.T @ p, p.T @ dz, (dz * dz).sum(0))

    def merge(self, other: Joint) -> Joint:
        """Return the sums of both (Chan, Golub & LeVeque, 1979, eq. 2.1)."""
        if not other.count or not self.count:
            return other if not self.count else self
        count = self.count + other.count
        step, step_z = other.mean - self.mean, other.mean_z - self.mean_z
        share, between = other.count / count, self.count * other.count / count
        return Joint(
            count,
            self.mean + share * step,
            self.mean_z + share * step_z,
            self.pp + other.pp + np.outer(between * step, step),
            self.pz + other.pz + np.outer(between * step, step_z),
            self.zz + other.zz + between * step_z**2,
        )


_FIELDS = [f.name for f in fields(Joint)]


@dataclass(frozen=True)
class Fitting(Job):
    """The sums of each layer's features with the logits, of what is fitted to and what is held out."""

    layers: tuple[str, ...]
    name: ClassVar[str] = "readouts"

    def map(self, models: Sequence[Model], batch: Batch) -> Partial:
        """Return the sums of a batch."""
        model, feeds = models[0].fit(batch.x)
        layers = [model.layer(name) for name in self.layers]
        logit = model.graph.logit.tensor
        parts = list(features_of(model, feeds, layers, [logit]))
        z = np.concatenate([values[logit] for _, values in parts]).astype(np.float64)
        held = batch.digests % HELD_OUT == 0
        found: Partial = {}
        for i in range(len(layers)):
            phi = np.concatenate([phis[i] for phis, _ in parts])
            for part, chosen in ((FIT, ~held), (HELD, held)):
                found |= _packed(Joint.of(phi[chosen], z[chosen]), part, i)
        return found

    def merge(self, a: Partial, b: Partial) -> Partial:
        """Return the sums of both."""
        merged: Partial = {}
        for part in (FIT, HELD):
            both = (_joints(p, part, len(self.layers)) for p in (a, b))
            for i, (one, other) in enumerate(zip(*both, strict=True)):
                merged |= _packed(one.merge(other), part, i)
        return merged

    def key(self) -> Any:
        """Return the layers."""
        return [list(self.layers), HELD_OUT]


def _packed(joint: Joint, part: str, layer: int) -> Partial:
    return {f"{part}.{layer}.{name}": getattr(joint, name) for name in _FIELDS}


def _joints(partial: Partial, part: str, layers: int) -> list[Joint]:
    return [Joint(*(partial[f"{part}.{i}.{name}"] for name in _FIELDS)) for i in range(layers)]


# --- the solution -------------------------------------------------------------------------------------
def solve(joint: Joint, ridge: float | None) -> tuple[Array, Array, float]:
    """Return W [K, C] and b [C] of the ridge regression of z on phi, and the ridge.

    By the eigenvectors of P'P: directions in which features vary by rounding alone are left out, so that
    ridge = 0 and fewer images than channels (where the dual form has the same solution) need no other case.
    """
    e, v = np.linalg.eigh(joint.pp)
    real = e > len(e) * np.finfo(np.float64).eps * max(e[-1], 0)
    e, v = e[real], v[:, real]
    q = v.T @ joint.pz
    scale = float(e.sum()) / len(real)
    if ridge is None:
        ridge = min(RIDGES, key=lambda r: _gcv(joint, e, q, r * scale))
    w: Array = (v / (e + ridge * scale)) @ q
    return w, joint.mean_z - joint.mean @ w, float(ridge)


def _gcv(joint: Joint, e: Array, q: Array, ridge: float) -> float:
    """Return the squared error that generalised cross-validation expects of images not fitted to, times n.

    SSE / (1 - df / n)^2, df = 1 + sum e / (e + ridge) (Golub, Heath & Wahba, 1979, eq. 1.4).
    """
    explained = (q * q).sum(1) / e
    missed = max(float(joint.zz.sum() - explained.sum()), 0.0)
    missed += float((explained * (ridge / (e + ridge)) ** 2).sum())
    left = 1 - (1 + float((e / (e + ridge)).sum())) / float(joint.count)
    return missed / max(left, np.finfo(np.float64).eps) ** 2


def r_squared(joint: Joint, w: Array, b: Array) -> float | None:
    """Return 1 - sum (z - phi W - b)^2 / sum (z - mean z)^2 over images and classes; None for 0 / 0."""
    spread = float(joint.zz.sum())
    if joint.count < 2 or not spread:
        return None
    offset = joint.mean_z - b - joint.mean @ w
    missed = joint.zz - 2 * (w * joint.pz).sum(0) + (w * (joint.pp @ w)).sum(0)
    missed = missed + joint.count * offset**2
    return 1 - max(float(missed.sum()), 0.0) / spread

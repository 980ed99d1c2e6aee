"""Class activation maps: a weighting of a layer's activation maps. A new one is a row of `CAMS`.

Notation: A the layer's activation [n, K, h, w]; G = d score / d A; z the score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnxplain.backward import VJP, RuleTable
from onnxplain.backward.variants.rescale import RESCALE
from onnxplain.errors import ConfigError, LayerError
from onnxplain.executor import Array
from onnxplain.graph.compute import NUMPY
from onnxplain.graph.layers import Layer
from onnxplain.graph.paths import needed, reads
from onnxplain.methods import perturb, weighing
from onnxplain.methods.common import Images, Job, cut_layer, join, start
from onnxplain.methods.maps import Found, channels_first, in_picture
from onnxplain.methods.weighing import Formula
from onnxplain.model import Model
from onnxplain.program import Linearized, Program
from onnxplain.results import Cam
from onnxplain.target import Seeds, scores


@dataclass(frozen=True)
class Row:
    """One CAM: a weight per channel [n, K, 1, 1] or per position [n, K, h, w].

    `formula` of A and the signal that `rules` send back to it, for arrays and exported files alike; or
    `runs`, for methods that only run forward, many times. `cut`: it shares the score out among whole
    channels, class tokens included, and needs the rest of the network as a function of the layer.
    """

    cite: str
    formula: Formula | None = None
    runs: Callable[[Found], Array] | None = None
    rules: RuleTable = VJP
    cut: bool = False


CAMS: dict[str, Row] = {
    "lift_cam": Row(
        "Jung & Oh, ICCV 2021, arXiv 2102.05228", weighing.contribution, rules=RESCALE, cut=True
    ),
    "grad_cam": Row("Selvaraju et al., ICCV 2017, arXiv 1610.02391", weighing.mean_signal),
    "grad_cam_plusplus": Row(
        "Chattopadhay et al., WACV 2018, arXiv 1710.11063", weighing.plus_plus
    ),
    "xgrad_cam": Row("Fu et al., BMVC 2020, arXiv 2008.02312", weighing.shared_signal),
    "hires_cam": Row("Draelos & Carin, 2020, arXiv 2011.08891", weighing.signal),
    "layer_cam": Row("Jiang et al., TIP 2021", weighing.positive_signal),
    "score_cam": Row("Wang et al., CVPRW 2020, arXiv 1910.01279", runs=perturb.score),
    "ablation_cam": Row("Desai & Ramaswamy, WACV 2020", runs=perturb.ablation, cut=True),
    "shap_cam": Row(
        "Shapley values, sampled; Jung & Oh 2021, eq. 5", runs=perturb.shapley, cut=True
    ),
}


def cam(
    model: Model,
    x: Images,
    target: object = None,
    kind: str = "lift_cam",
    layer: Layer | str | None = None,
    grid: tuple[int, int] | None = None,
    **options: Any,
) -> Cam:
    """Return a class activation map per image: values [N, h, w] = sum_k weight_k A_k, signed, not scaled.

    kind: a key of `CAMS`. layer: a feature map, or tokens; None takes `model.default_layer`. grid: how the
    patches among the tokens lie (height, width), where the graph does not tell; other tokens come first.
    They are not in the map; lift_cam, ablation_cam and shap_cam count them in a channel's weight, and
    meta["outside_grid"] is their share of sum |A * signal| per image. `.weights` [N, K] are
    the coefficients (for the element-wise hires_cam and layer_cam: each channel's sum); `.heatmap()`
    [N, H, W] is ReLU, bilinear up-sampling, min-max. For lift_cam the weights sum to
    score(A) - score(A = 0); its reference pass runs once per model; at tokens meta["residual"] is what the
    sum misses, per image, and a sum that misses much is refused. shap_cam takes `permutations` (64)
    and `seed` (0).

    Raises ConfigError (unknown kind, option), LayerError (no feature map, or not a cut where one is needed),
    InputError, TargetError, UnsupportedOpError.
    """
    if kind not in CAMS:
        raise ConfigError(f"cam kind {kind!r} is unknown: choose {', '.join(CAMS)}")
    row = CAMS[kind]
    job = start(model, x, target)
    chosen = mapped_layer(job.model, job.output, layer, grid)
    if row.cut:
        cut_layer(job.model, chosen, kind)
    checked = perturb.check_options(kind, options)
    program, found = None, _by_runs(job, row, chosen, checked)
    if row.formula is not None:
        program = job.program(chosen.name, row.rules)
        found = _by_signal(job, row, chosen, program)
    parts, outside, missing = [], list[float](), list[float]()
    for part in found:
        parts.append((part.maps, part.weights, part.seeds.classes, part.seeds.scores))
        outside += part.outside
        missing += part.missing
    maps, weights, classes, scored = join(parts)
    return Cam(
        values=maps,
        weights=weights,
        kind=kind,
        layer=chosen.name,
        size=input_size(job.model),
        classes=classes,
        scores=scored,
        meta=job.meta(
            kind,
            program,
            layer=chosen.name,
            baseline="zero activations" if row.rules.needs_reference else None,
            paper=row.cite,
            **({} if chosen.grid is None else {"grid": chosen.grid.words()}),
            **({"outside_grid": outside} if outside else {}),
            **({"residual": missing} if missing else {}),
            **checked,
        ),
    )


def mapped_layer(
    model: Model, output: str, layer: Layer | str | None, grid: tuple[int, int] | None
) -> Layer:
    """Return the layer to map; raises LayerError where its positions do not lie in the picture."""
    chosen = model.layer(layer)
    if grid is not None:
        chosen = chosen.with_grid(grid)
    if not chosen.has_map:
        tokens = len(chosen.shape) == 2
        way_out = (
            "; if it holds tokens, give the grid of their patches (--grid 14x14)" if tokens else ""
        )
        raise LayerError(
            f"layer {chosen.name!r} of shape {chosen.shape} is not a feature map{way_out}"
        )
    if not chosen.patches_count and output == model.graph.logit.tensor:
        raise LayerError(
            f"layer {chosen.name!r} is read at the class token alone, its patches have no path to the logit: "
            "choose an earlier layer"
        )
    return chosen


@dataclass(frozen=True, eq=False)
class _Part:
    """What was found of a batch: maps [n, h, w], weights [n, K], and per image of tokens two floats.

    outside: the share of the contributions that lies outside the map. missing: what their sum lacks.
    """

    maps: Array
    weights: Array
    seeds: Seeds
    outside: list[float] = field(default_factory=list)
    missing: list[float] = field(default_factory=list)


def _by_signal(job: Job, row: Row, layer: Layer, program: Program) -> Iterator[_Part]:
    """Weigh by a formula of the activation and of the signal that comes back to it."""
    assert row.formula is not None
    if row.rules.needs_reference:
        reference_zeros(job.model, program, layer)
    for linearized, seeds in job.linearize(layer.name, row.rules, ahead=True):
        a = _activation(linearized[layer.name], layer)
        g = channels_first(linearized.backward({job.output: seeds.seed})[layer.name], layer)
        outside = [] if layer.grid is None else _outside_grid(a * g, layer)
        shown = in_picture(a, layer)
        weighed = (a, g) if row.cut else (shown, in_picture(g, layer))
        maps, weights = _sums(row.formula(NUMPY, *weighed), shown)
        missing = []
        if row.rules.needs_reference and layer.grid is not None:
            missing = _missing(job, layer, linearized, seeds, weights)
        yield _Part(maps, weights, seeds, outside, missing)


def _by_runs(job: Job, row: Row, layer: Layer, options: dict[str, Any]) -> Iterator[_Part]:
    """Weigh by what other runs of the network answer.

    Raises LayerError for a layer that the explained output does not depend on.
    """
    assert row.runs is not None
    read = needed(job.model.graph.nodes.nodes, [job.output])
    if layer.name not in {job.output, *(x.name for node in read for x in reads(node))}:
        raise LayerError(f"{job.output!r} does not depend on layer {layer.name!r}")
    for feeds, value, seeds in job.run(layer.name):
        a = _activation(value, layer)
        shown = in_picture(a, layer)
        weights = row.runs(Found(a if row.cut else shown, feeds, seeds, job, layer, options))
        yield _Part(*_sums(weights, shown), seeds)


def _activation(value: Array, layer: Layer) -> Array:
    return channels_first(value.astype(np.float32, copy=False), layer)


def _sums(weights: Array, a: Array) -> tuple[Array, Array]:
    """Return sum_k weight_k A_k [n, h, w], and the weight of each channel [n, K]; both float32."""
    if weights.shape[2:] == (1, 1):
        n, channels, *sizes = a.shape
        rows = weights.reshape(n, 1, channels) @ a.reshape(n, channels, -1)
        maps: Array = rows.reshape(n, *sizes)
        per_channel = weights[:, :, 0, 0]
    else:
        products = weights * a
        maps, per_channel = products.sum(1), products.sum((2, 3))
    return maps.astype(np.float32), per_channel.astype(np.float32)


def _outside_grid(contributions: Array, layer: Layer) -> list[float]:
    """Return the share per image of sum |A * signal| over all tokens [n, K, T, 1] that is on no patch."""
    sizes = np.abs(contributions).astype(np.float64)
    inside, whole = in_picture(sizes, layer).sum((1, 2, 3)), sizes.sum((1, 2, 3))
    return [float(share) for share in (whole - inside) / np.where(whole > 0, whole, 1)]


def _missing(
    job: Job, layer: Layer, linearized: Linearized, seeds: Seeds, weights: Array
) -> list[float]:
    """Return score(A) - score(A = 0) - sum of the weights, per image.

    A normalisation of zeros divides by nearly nothing, and float32 may lose the sum. Raises LayerError where
    more than a hundredth is lost, unless the rules are not exact anyway.
    """
    nothing = np.zeros_like(linearized[layer.name])
    program = linearized.program
    base = scores(seeds.seed, program.tail({**linearized.feeds, layer.name: nothing})[job.output])
    lost = seeds.scores - base - weights.sum(1, dtype=np.float64)
    if not program.notes and (np.abs(lost) > 0.01 * (np.abs(seeds.scores) + np.abs(base))).any():
        raise LayerError(
            f"contributions at {layer.name!r} miss the rise of the score by {np.abs(lost).max():.2g}: "
            "lost in rounding where zero tokens are normalised; use grad_cam, or another layer"
        )
    return [float(value) for value in lost]


def reference_zeros(model: Model, program: Program, layer: Layer) -> None:
    """Run the head on zero activations once; the program keeps the result (weights alone decide it)."""
    if not program.has_reference:
        shape = (1, *(int(s or 0) for s in layer.shape))
        program.set_reference({layer.name: np.zeros(shape, model.dtype_of(layer.name))})


def input_size(model: Model) -> tuple[int, int]:
    """Return height and width of the pictures; raises LayerError where the input is none."""
    source = model.graph.source
    if source.axes is None:
        raise LayerError(
            f"input {source.name!r} is not a picture, so a map has nothing to lie over"
        )
    h, w = (int(source.shape[source.axes.index(a)]) for a in "HW")
    return h, w

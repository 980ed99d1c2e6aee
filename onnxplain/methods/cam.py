"""Class activation maps: a weighting of a layer's activation maps. A new one is a row of `CAMS`.

Notation: A the layer's activation [n, K, h, w]; G = d score / d A; z the score.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxplain.backward import VJP, RuleTable
from onnxplain.backward.variants.rescale import RESCALE
from onnxplain.errors import ConfigError, LayerError
from onnxplain.executor import Array
from onnxplain.graph.layers import Layer
from onnxplain.methods import perturb
from onnxplain.methods.common import Images, Job, concat, cut_layer, join, start
from onnxplain.methods.maps import Found, channels_first, in_picture
from onnxplain.model import Model
from onnxplain.program import Linearized
from onnxplain.results import Cam
from onnxplain.target import Seeds, scores


@dataclass(frozen=True)
class Row:
    """One CAM: `weigh` gives a weight per channel [n, K, 1, 1] or per position [n, K, h, w].

    `rules` is the table of its backward pass, None for methods that only run forward. `cut`: it shares the
    score out among whole channels, class tokens included, and needs the rest of the network as a function
    of the layer.
    """

    weigh: Callable[[Found], Array]
    cite: str
    rules: RuleTable | None = VJP
    cut: bool = False


def _signal(f: Found) -> Array:
    return f.G


def _grad_cam(f: Found) -> Array:
    weights: Array = f.G.mean((2, 3), keepdims=True)
    return weights


def _grad_cam_plusplus(f: Found) -> Array:
    """Alpha = G^2 / (2 G^2 + sum(A) G^3), weight = sum alpha relu(G) (eq. 19, exponential score)."""
    g = f.G
    below = 2 * g**2 + f.A.sum((2, 3), keepdims=True) * g**3
    alpha = np.divide(g**2, below, out=np.zeros_like(g), where=below != 0)
    weights: Array = (alpha * np.maximum(g, 0)).sum((2, 3), keepdims=True)
    return weights


def _xgrad_cam(f: Found) -> Array:
    weights: Array = (f.G * f.A).sum((2, 3), keepdims=True) / (
        f.A.sum((2, 3), keepdims=True) + 1e-7
    )
    return weights


def _lift_cam(f: Found) -> Array:
    """alpha_k = sum_ij m A: DeepLIFT rescale contributions of channel k, reference zeros (eq. 9 to 11)."""
    weights: Array = (f.G * f.A).sum((2, 3), keepdims=True, dtype=np.float64)
    return weights


CAMS: dict[str, Row] = {
    "lift_cam": Row(_lift_cam, "Jung & Oh, ICCV 2021, arXiv 2102.05228", RESCALE, cut=True),
    "grad_cam": Row(_grad_cam, "Selvaraju et al., ICCV 2017, arXiv 1610.02391"),
    "grad_cam_plusplus": Row(
        _grad_cam_plusplus, "Chattopadhay et al., WACV 2018, arXiv 1710.11063"
    ),
    "xgrad_cam": Row(_xgrad_cam, "Fu et al., BMVC 2020, arXiv 2008.02312"),
    "hires_cam": Row(_signal, "Draelos & Carin, 2020, arXiv 2011.08891"),
    "layer_cam": Row(lambda f: np.maximum(f.G, 0), "Jiang et al., TIP 2021"),
    "score_cam": Row(perturb.score, "Wang et al., CVPRW 2020, arXiv 1910.01279", None),
    "ablation_cam": Row(perturb.ablation, "Desai & Ramaswamy, WACV 2020", None, cut=True),
    "shap_cam": Row(
        perturb.shapley, "Shapley values, sampled; Jung & Oh 2021, eq. 5", None, cut=True
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
    chosen = _mapped(job, layer, grid)
    if row.cut:
        cut_layer(job.model, chosen, kind)
    rules = row.rules or VJP
    if rules.needs_reference:
        _reference_zeros(job, chosen, rules)
    checked = perturb.check_options(kind, options)
    maps, weights, parts, outside, missing = [], [], [], list[float](), list[float]()
    for linearized, seeds in job.linearize(chosen.name, rules, ahead=row.rules is not None):
        found_map, found_weights, shares = _explain(job, row, chosen, linearized, seeds, checked)
        maps.append(found_map)
        weights.append(found_weights)
        parts.append(seeds)
        outside += shares
        if rules.needs_reference and chosen.grid is not None:
            missing += _missing(job, chosen, linearized, seeds, found_weights)
    found = join(parts)
    return Cam(
        values=concat(maps),
        weights=concat(weights),
        kind=kind,
        layer=chosen.name,
        size=_input_size(job.model),
        classes=found.classes,
        scores=found.scores,
        meta=job.meta(
            kind,
            job.program(chosen.name, rules),
            layer=chosen.name,
            baseline="zero activations" if rules.needs_reference else None,
            paper=row.cite,
            **({} if chosen.grid is None else {"grid": chosen.grid.words()}),
            **({"outside_grid": outside} if outside else {}),
            **({"residual": missing} if missing else {}),
            **checked,
        ),
    )


def _mapped(job: Job, layer: Layer | str | None, grid: tuple[int, int] | None) -> Layer:
    """Return the layer to map; raises LayerError where its positions do not lie in the picture."""
    chosen = job.model.layer(layer)
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
    if not chosen.patches_count and job.output == job.model.graph.logit.tensor:
        raise LayerError(
            f"layer {chosen.name!r} is read at the class token alone, its patches have no path to the logit: "
            "choose an earlier layer"
        )
    return chosen


def _explain(
    job: Job, row: Row, layer: Layer, linearized: Linearized, seeds: Seeds, options: dict[str, Any]
) -> tuple[Array, Array, list[float]]:
    """Return maps, weights per channel, and per image the share of the contributions outside the maps."""
    a = channels_first(linearized[layer.name].astype(np.float32, copy=False), layer)
    g, outside = np.zeros(0, np.float32), list[float]()
    if row.rules is not None:
        signal = linearized.backward({job.output: seeds.seed})[layer.name]
        g = channels_first(signal, layer)
        outside = [] if layer.grid is None else _outside_grid(a * g, layer)
    shown = in_picture(a, layer)
    if not row.cut:
        a, g = shown, in_picture(g, layer) if g.size else g
    weights = row.weigh(Found(a, g, seeds, job, layer, linearized, options))
    maps: Array = (weights * shown).sum(1)
    per_channel = weights if weights.shape[2:] == (1, 1) else (weights * shown)
    return maps.astype(np.float32), per_channel.sum((2, 3)).astype(np.float32), outside


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


def _reference_zeros(job: Job, layer: Layer, rules: RuleTable) -> None:
    """Run the head on zero activations once; the program keeps the result (weights alone decide it)."""
    program = job.program(layer.name, rules)
    if not program.has_reference:
        shape = (1, *(int(s or 0) for s in layer.shape))
        program.set_reference({layer.name: np.zeros(shape, job.model.dtype_of(layer.name))})


def _input_size(model: Model) -> tuple[int, int]:
    source = model.graph.source
    if source.axes is None:
        raise LayerError(
            f"input {source.name!r} is not a picture, so a map has nothing to lie over"
        )
    h, w = (int(source.shape[source.axes.index(a)]) for a in "HW")
    return h, w

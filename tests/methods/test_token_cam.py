"""Class activation maps at the tokens of a transformer, against torch and formulas."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import onnxplain as ox
from onnxplain.errors import LayerError
from onnxplain.methods.cam import CAMS
from tests import nets, tokens
from tests.methods.test_cam import FORMULAS

Array = np.ndarray[Any, Any]
TARGETS = [2, 0, 3]
PLACES = [("t0", "class"), ("t0", "mean"), ("n3", "mean")]
places = pytest.mark.parametrize(("layer", "head"), PLACES)


def images() -> Array:
    return nets.images(3, (3, 6, 8))


def explain(head: str, kind: str, **options: Any) -> ox.Cam:
    return ox.cam(nets.load(tokens.vit(head)), images(), TARGETS, kind=kind, **options)


# --- the oracle ----------------------------------------------------------------------------------------
def score(tokens_: torch.Tensor, layer: str, head: str, n: int) -> torch.Tensor:
    w = nets.weights_of(tokens.vit(head))
    return tokens.torch_head(w, tokens_, layer, head)[:, TARGETS[n]]


@cache
def truth(layer: str, head: str) -> tuple[Array, Array]:
    """Return A and d z / d A of all tokens at three images, [3, K, T], float64."""
    proto = tokens.vit(head)
    w = nets.weights_of(proto)
    x = torch.tensor(images(), dtype=torch.float64)
    a = tokens.torch_tokens(w, x)
    if layer == "n3":
        model = nets.load(proto)
        a = torch.tensor(model.values({"x": images()}, ["n3"])["n3"], dtype=torch.float64)
    at = a.requires_grad_()
    z = tokens.torch_head(w, at, layer, head)[range(3), TARGETS]
    (g,) = torch.autograd.grad(z.sum(), at)
    return at.detach().numpy().transpose(0, 2, 1), g.numpy().transpose(0, 2, 1)


def patches(a: Array) -> Array:
    """Return the patches of [n, K, T], one token before them, as [n, K, 3, 4]."""
    return a[:, :, 1:].reshape(*a.shape[:2], *tokens.GRID)


def without(layer: str, head: str, n: int, removed: list[int]) -> float:
    """Return the score of image n with some channels set to zero in every token."""
    a = truth(layer, head)[0][n : n + 1].copy()
    a[:, removed] = 0
    return float(score(torch.tensor(a.transpose(0, 2, 1)), layer, head, n))


# --- every row -----------------------------------------------------------------------------------------
@places
@pytest.mark.parametrize("kind", FORMULAS)
def test_formula_over_patches(kind: str, layer: str, head: str) -> None:
    """Weights are those of the patches, as if they were a feature map."""
    a, g = (patches(v) for v in truth(layer, head))
    weights = FORMULAS[kind](a, g)
    found = explain(head, kind, layer=layer)
    size = np.abs(weights * a).max()
    np.testing.assert_allclose(found.values, (weights * a).sum(1), rtol=1e-3, atol=1e-5 * size)
    coefficients = weights if weights.shape[2:] == (1, 1) else weights * a
    np.testing.assert_allclose(found.weights, coefficients.sum((2, 3)), rtol=1e-3, atol=1e-5 * size)
    assert found.heatmap().shape == (3, 6, 8)


@places
@pytest.mark.parametrize("kind", ["lift_cam", "shap_cam"])
def test_whole_channels_share_out_the_whole_rise(kind: str, layer: str, head: str) -> None:
    """The class token counts in the weights, through LayerNorm, Softmax and GELU."""
    found = explain(head, kind, layer=layer)
    every = list(range(tokens.WIDTH))
    rise = [without(layer, head, n, []) - without(layer, head, n, every) for n in range(3)]
    np.testing.assert_allclose(found.weights.sum(1), rise, rtol=1e-4, atol=1e-5)
    maps = (found.weights[:, :, None, None] * patches(truth(layer, head)[0])).sum(1)
    np.testing.assert_allclose(found.values, maps, rtol=1e-3, atol=1e-5 * np.abs(maps).max())


@places
def test_ablation_removes_a_channel_from_every_token(layer: str, head: str) -> None:
    found = explain(head, "ablation_cam", layer=layer)
    whole = [without(layer, head, n, []) for n in range(3)]
    drops = [
        [(z - without(layer, head, n, [k])) / z for k in range(tokens.WIDTH)]
        for n, z in enumerate(whole)
    ]
    np.testing.assert_allclose(found.weights, drops, rtol=1e-3, atol=1e-5)


def test_score_cam_masks_by_patches() -> None:
    w = nets.weights_of(tokens.vit("class"))
    maps = torch.tensor(patches(truth("t0", "class")[0]))
    large = F.interpolate(maps, (6, 8), mode="bilinear", align_corners=False)
    low, high = large.amin((2, 3), keepdim=True), large.amax((2, 3), keepdim=True)
    raised = []
    for n, masks in enumerate((large - low) / (high - low)):
        x = torch.tensor(images()[n : n + 1], dtype=torch.float64) * masks[:, None]
        raised.append(score(tokens.torch_tokens(w, x), "t0", "class", n))
    expected = torch.softmax(torch.stack(raised), 1)
    np.testing.assert_allclose(
        explain("class", "score_cam", layer="t0").weights, expected, rtol=1e-4
    )


@pytest.mark.parametrize("kind", ["hires_cam", "grad_cam"])
def test_what_lies_outside_the_map_is_said(kind: str) -> None:
    a, g = truth("t0", "class")
    of_tokens = np.abs(a * g).sum(1)
    expected = of_tokens[:, 0] / of_tokens.sum(1)
    found = explain("class", kind, layer="t0").meta
    assert found["grid"] == "3x4 after patches, 1 token beside it"
    np.testing.assert_allclose(found["outside_grid"], expected, rtol=1e-3)
    assert (expected > 0.1).all(), "nothing to say otherwise"


def test_contributions_of_a_linear_head_outside_the_map() -> None:
    """Behind a mean the multiplier is w / 13 for every token."""
    a = truth("n3", "mean")[0]
    w = nets.weights_of(tokens.vit("mean"))["w"].numpy()[:, TARGETS].T
    of_tokens = np.abs(a * w[:, :, None]).sum(1)
    found = explain("mean", "lift_cam", layer="n3").meta["outside_grid"]
    np.testing.assert_allclose(found, of_tokens[:, 0] / of_tokens.sum(1), rtol=1e-4)
    alone = nets.load(tokens.vit("mean", others=0))
    assert set(ox.cam(alone, images(), layer="n3").meta["outside_grid"]) == {0.0}


@pytest.mark.parametrize("kind", CAMS)
def test_images_at_once_are_explained_as_each_alone(kind: str) -> None:
    model, layer = nets.load(tokens.vit("class")), "t0" if CAMS[kind].cut else "n1"
    together = explain("class", kind, layer=layer)
    for i, target in enumerate(TARGETS):
        alone = ox.cam(model, images()[i : i + 1], target, kind=kind, layer=layer)
        scale = np.abs(alone.values).max()
        np.testing.assert_allclose(together.values[i], alone.values[0], atol=1e-4 * scale)


def test_a_sum_that_misses_the_rise_is_said_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    row = CAMS["lift_cam"]
    found = explain("class", "lift_cam", layer="t0")
    every = list(range(tokens.WIDTH))
    rise = [without("t0", "class", n, []) - without("t0", "class", n, every) for n in range(3)]
    expected = np.array(rise) - found.weights.sum(1)
    np.testing.assert_allclose(found.meta["residual"], expected, atol=1e-5)
    monkeypatch.setitem(
        CAMS, "lift_cam", replace(row, formula=lambda op, a, g: op.Mul(row.formula(op, a, g), 1.5))
    )
    with pytest.raises(LayerError, match=r"contributions at 't0' miss the rise of the score by"):
        explain("class", "lift_cam", layer="t0")


# --- a net whose answer is plain to see ----------------------------------------------------------------
def planted(head: str) -> ox.Model:
    """Return a net that reads the red of every patch; the rest of the tokens is small and constant."""
    wp = np.zeros((tokens.WIDTH, 3, 2, 2), np.float32)
    wp[0, 0] = 1
    small = np.random.default_rng(0).normal(0, 0.1, (1, 13, tokens.WIDTH)).astype(np.float32)
    eye = np.eye(tokens.WIDTH, dtype=np.float32)
    reads = np.zeros((tokens.WIDTH, tokens.CLASSES), np.float32)
    reads[0, 1] = 1
    flat = {name: np.ones(tokens.WIDTH, np.float32) for name in ("g1", "g2", "g3")}
    return nets.load(
        tokens.vit(head, wp=wp, bp=np.zeros(tokens.WIDTH, np.float32), places=small, wv=eye, w=reads,
                   wq=0 * eye, wk=0 * eye, w2=np.zeros((8, tokens.WIDTH), np.float32), **flat)
    )  # fmt: skip


@pytest.mark.parametrize("head", ["class", "mean"])
@pytest.mark.parametrize("kind", CAMS)
def test_the_patch_that_decides_is_the_peak(kind: str, head: str) -> None:
    """Element-wise kinds at the output of the LayerNorm: sum_k G A before it is 0, scale does not count."""
    model = planted(head)
    layer = "n1" if kind in ("hires_cam", "layer_cam") else {"class": "t0", "mean": "n3"}[head]
    for row, column in ((0, 0), (1, 3), (2, 1)):
        x = np.zeros((1, 3, 6, 8), np.float32)
        x[0, 0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = 3
        found = ox.cam(model, x, 1, kind=kind, layer=layer).values[0]
        assert np.unravel_index(found.argmax(), found.shape) == (row, column)


# --- grids ---------------------------------------------------------------------------------------------
def test_a_declared_grid_says_what_the_graph_does_not() -> None:
    known, unknown = (nets.load(tokens.vit("class", by_hand=by)) for by in (False, True))
    assert "outside_grid" not in ox.cam(known, images(), layer="t0", kind="score_cam").meta
    assert (unknown.layer("t0").grid, unknown.default_layer) == (None, None)
    with pytest.raises(LayerError, match=r"'t0' .* not a feature map; .* give the grid"):
        ox.cam(unknown, images(), layer="t0")
    declared = ox.cam(unknown, images(), TARGETS, layer="t0", grid=(3, 4))
    expected = ox.cam(known, images(), TARGETS, layer="t0")
    assert declared.meta["grid"] == "3x4 as given, 1 token beside it"
    scale = np.abs(expected.values).max()
    np.testing.assert_allclose(declared.values, expected.values, atol=1e-4 * scale)
    turned = ox.cam(unknown, images(), TARGETS, layer="t0", grid=(4, 3))
    np.testing.assert_array_equal(turned.values.reshape(3, -1), declared.values.reshape(3, -1))


@pytest.mark.parametrize(("others", "first"), [(0, True), (1, True), (3, True), (1, False)])
def test_the_grid_is_found_wherever_the_other_tokens_are(others: int, first: bool) -> None:
    model = nets.load(tokens.vit("mean", others=others, first=first))
    places = np.zeros((1, 12 + others, tokens.WIDTH), np.float32)
    changed = nets.load(tokens.vit("mean", others=others, first=first, places=places))
    found = ox.cam(changed, images(), 0, kind="hires_cam", layer="t0")
    grid = model.layer("t0").grid
    assert grid is not None and (grid.height, grid.width, grid.others) == (3, 4, others)
    assert grid.patches.start == (others if first else 0)
    values = changed.values({"x": images()}, ["t0", "patches"])
    rows = values["t0"][:, grid.patches].transpose(0, 2, 1).reshape(values["patches"].shape)
    np.testing.assert_array_equal(rows, values["patches"])
    assert found.values.shape == (3, 3, 4)


@pytest.mark.parametrize(
    ("layer", "grid", "message"),
    [
        ("t0", (3, 5), "'t0' has 13 tokens, which are not 3x5 patches and up to 8 others"),
        ("t0", (2, 2), "which are not 2x2 patches and up to 8 others"),
        ("t0", (3, 4, 1), r"grid \(3, 4, 1\) is not \(height, width\)"),
        ("t0", "3x", "grid '3x' is not"),
        ("t0", (3, 4.0), "is not"),
        ("t0", (0, 4), "which are not 0x4 patches"),
        ("t0", (-3, -4), "which are not -3x-4 patches"),
        ("r", (3, 4), "'r' of shape .* has no tokens to put on a grid"),
        ("patches", (4, 3), "'patches' of shape .* has no tokens to put on a grid"),
    ],
)
def test_a_grid_that_does_not_fit_is_refused(layer: str, grid: Any, message: str) -> None:
    with pytest.raises(LayerError, match=message):
        ox.cam(nets.load(tokens.vit("mean")), images(), layer=layer, grid=grid)


@pytest.mark.parametrize("layer", ["t1", "t2", "n3"])
def test_patches_that_no_longer_count_are_refused(layer: str) -> None:
    """Behind the last attention only the class token is read: every map there is zero."""
    with pytest.raises(LayerError, match=f"'{layer}' is read at the class token alone"):
        explain("class", "grad_cam", layer=layer)
    g = ox.gradient(nets.load(tokens.vit("class")), images(), TARGETS, wrt=layer).values
    assert not g[:, 1:].any() and g[:, 0].any()

"""Small nets in every style that exporters write (tools/zoo made them), measured as in docs/coverage.md."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

import onnxplain as ox
from onnxplain.backward import VJP
from onnxplain.backward.variants.blocked import table
from onnxplain.errors import LayerError, UnsupportedOpError
from onnxplain.program import Program
from tests.backward.harness import PLAIN
from tests.oracle import judge, run_original
from tests.zoo.measure import (
    ZOO,
    batch_error,
    forward_error,
    gradient_errors,
    lift_residual,
    rank_correlation,
    zoo,
)

SUBJECTS = {subject.path.stem: subject for subject in zoo()}
HALF = {"float16", "float16_dynamo", "mixed_precision"}
NOTHING_IN_BLOCKS = {  # neither feature maps, nor masks of them that have a rule for blocks
    "int8_dynamic", "autoencoder", "super_resolution", "float64",
    "volumes", "signal", "vit", "vit_static", "vit_op14", "vit_dynamo", "vit_attention_op", "swin",
    "swin_dynamo",
}  # fmt: skip
QUANTISED = {name for name in SUBJECTS if name.startswith(("int8", "int16"))}
TWO_INPUTS = [(n, i) for n, s in SUBJECTS.items() if len(s.inputs) > 1 for i in s.inputs]
TWO_OUTPUTS = [(n, o) for n, s in SUBJECTS.items() if len(s.outputs) > 1 for o in s.outputs]
OPEN_SIZE = [n for n, s in SUBJECTS.items() if "symbolic" in s.style]

NO_MAP = {  # net -> what LIFT-CAM says instead of a map
    "float64": "no feature maps",
    "signal": "no feature maps",
    "volumes": "no feature maps",
    "indexing": "Where .* computed by the network",
    "indexing_dynamo": "Where .* computed by the network",
}

each = pytest.mark.parametrize("name", SUBJECTS)


def tolerance(name: str, single: float, half: float) -> float:
    return half if name in HALF else single


@each
def test_output_is_the_frameworks(name: str) -> None:
    """Quantised kernels of other processors may round one level away from the file's stored output."""
    limit = 3e-2 if name in QUANTISED else tolerance(name, 1e-5, 2e-3)
    assert forward_error(SUBJECTS[name]) <= limit


@pytest.mark.parametrize("name", sorted(QUANTISED))
def test_quantised_nets_keep_every_bit(name: str) -> None:
    subject = SUBJECTS[name]
    expected = run_original(subject.path, subject.inputs["image"])
    now = dataclasses.replace(subject, outputs=expected)
    assert forward_error(now) <= 1e-6  # float layers around the integer ones


@each
def test_gradient_equals_finite_differences(name: str) -> None:
    """A range found at run time differs in its last bit: a level rounds the other way, a ReLU flips."""
    errors = gradient_errors(SUBJECTS[name])
    worst = 0.3 if name == "int8_dynamic" else 3e-2
    judge(errors, best=tolerance(name, 1e-5, 1e-3), worst=worst)


@each
def test_a_hierarchy_s_top_level_is_gradient_times_activation(name: str) -> None:
    """Every channel of the first level, and the residual: nothing of the score is lost or counted twice."""
    subject = SUBJECTS[name]
    model, row = (
        subject.model,
        subject.model.rows(subject.model.fit(subject.inputs)[1], slice(0, 1)),
    )
    if not model.graph.levels:
        with pytest.raises(LayerError, match="name layers"):
            ox.decompose(model, row)
        return
    every = {"top_k": 10**6, "inhibitors": 10**6, "min_share": 0.0, "max_nodes": 10**6}
    tree = ox.decompose(model, row, depth=1, **every)
    at_size, feeds = model.fit(row)
    layer = at_size.layer(tree.layers[0])
    g = ox.gradient(model, row, wrt=layer).values
    a = at_size.values(feeds, [layer.name])[layer.name].astype(np.float64)
    axes = tuple(i for i in range(1, g.ndim) if layer.axes and layer.axes[i] != "C")
    direct = (g * a).sum(axes)[0]
    found = np.zeros(len(direct))
    for node in tree.level(1):
        found[node.channel] = node.contribution
    atol = tolerance(name, 1e-4, 3e-2) * np.abs(direct).max()
    np.testing.assert_allclose(found, direct, rtol=1e-4, atol=atol)
    assert tree.root.residual == pytest.approx(tree.root.decision - direct.sum(), abs=10 * atol)


@each
def test_gradient_is_neither_zero_nor_constant(name: str) -> None:
    for g in ox.gradient(SUBJECTS[name].model, SUBJECTS[name].inputs).values:
        assert np.isfinite(g).all()
        assert np.ptp(g) > 0 and np.linalg.norm(g - g.mean()) > 0.1 * np.linalg.norm(g)


@each
def test_images_at_once_are_explained_as_each_alone(name: str) -> None:
    assert batch_error(SUBJECTS[name]) <= tolerance(name, 1e-5, 1e-3)


@each
@pytest.mark.usefixtures("blocks_of_one")
def test_several_seeds_of_an_image_are_pulled_back_as_each_alone(name: str) -> None:
    """Six: four passes in one graph, and two alone."""
    at_size, feeds = SUBJECTS[name].model.fit(SUBJECTS[name].images(1))
    output, source = at_size.graph.logit.tensor, at_size.graph.source.name
    program = Program(at_size.graph.nodes, [output], [source], VJP, at_size.executor)
    assert program.pair.each == (name not in NOTHING_IN_BLOCKS)
    linearized = program.forward(feeds)
    seeds = np.random.default_rng(6).normal(size=(6, *linearized[output].shape[1:]))
    found = linearized.backward({output: seeds})[source]
    plain = Program(at_size.graph.nodes, [output], [source], PLAIN, at_size.executor)
    for alone in (linearized, plain.forward(feeds)):
        expected = [alone.backward({output: seed[None]})[source][0] for seed in seeds]
        errors = np.linalg.norm((found - expected).reshape(6, -1), axis=1)
        sizes = np.linalg.norm(np.reshape(expected, (6, -1)), axis=1)
        assert (sizes > 0).all() and (errors <= 2e-6 * sizes).all()


@pytest.fixture
def blocks_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the few channels of these nets, and their small maps, enter blocks too."""
    monkeypatch.setattr(table, "BLOCK", 1)
    monkeypatch.setattr("onnxplain.program.FEW_ELEMENTS", 1)


@each
def test_lift_cam_is_complete_or_says_why_not(name: str) -> None:
    subject = SUBJECTS[name]
    if name in NO_MAP:
        with pytest.raises((LayerError, UnsupportedOpError), match=NO_MAP[name]):
            lift_residual(subject.model, subject.inputs)
    else:
        limit = 3e-2 if name in QUANTISED else tolerance(name, 1e-5, 2e-3)
        assert lift_residual(subject.model, subject.inputs) <= limit


@pytest.mark.parametrize(("name", "source"), TWO_INPUTS)
def test_the_chosen_input_is_explained(name: str, source: str) -> None:
    judge(gradient_errors(SUBJECTS[name], wrt=source), best=1e-5, worst=3e-2)


@pytest.mark.parametrize(("name", "output"), TWO_OUTPUTS)
def test_the_chosen_output_is_explained(name: str, output: str) -> None:
    judge(gradient_errors(SUBJECTS[name], output=output), best=1e-5, worst=3e-2)


@pytest.mark.parametrize("name", OPEN_SIZE)
def test_other_sizes_of_picture(name: str) -> None:
    """Two sizes in turn: what was made for one must not serve the other."""
    subject = SUBJECTS[name]
    for height, width in ((20, 12), (16, 24)):
        x = np.resize(subject.inputs["image"], (2, 3, height, width))
        expected = run_original(subject.path, x)
        resized = dataclasses.replace(subject, inputs={"image": x}, outputs=expected)
        assert forward_error(resized) <= 1e-5
        judge(gradient_errors(resized), best=1e-5, worst=3e-2)


@pytest.mark.parametrize("name", [n for n, s in SUBJECTS.items() if s.twin])
def test_quantised_gradients_order_pixels_as_in_float(name: str) -> None:
    assert rank_correlation(SUBJECTS[name]) >= 0.9


# --- the files --------------------------------------------------------------------------------------------
def test_index_lists_every_file_and_no_other() -> None:
    index = json.loads((ZOO / "index.json").read_text(encoding="utf-8"))
    expected = {f"{name}.{kind}" for name in index for kind in ("onnx", "npz")}
    assert {p.name for p in ZOO.iterdir()} == expected | {"index.json", "external_data.onnx.data"}


def test_all_24_styles_of_the_comparison_are_there() -> None:
    assert sum(subject.peer for subject in SUBJECTS.values()) == 24


def test_files_are_small_and_know_nothing_of_the_machine_that_wrote_them() -> None:
    sizes = {path.name: path.stat().st_size for path in ZOO.iterdir()}
    assert max(sizes.values()) <= 32_000
    assert sum(sizes.values()) <= 1_000_000
    for path in ZOO.glob("*.onnx"):
        content = path.read_bytes()
        assert not any(
            mark in content for mark in (b"stack_trace", b"site-packages", b"tools/zoo", b"/home/")
        )

"""The doctor: a verdict that was tried, doubts about a file's numbers, and words for what is broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, parser

import onnxplain as ox
from onnxplain.doctor import inspect
from onnxplain.errors import ModelError, OnnxplainError
from onnxplain.graph.doubts import doubts
from onnxplain.verify import noise
from tests import nets
from tests.conftest import ROOT

ZOO = sorted((ROOT / "tests" / "zoo" / "models").glob("*.onnx"))


def works(attempt: object) -> bool:
    """Return whether a call gives numbers other than zero; nothing but our own errors may stop it."""
    try:
        return bool(attempt().values.any())  # type: ignore[operator]
    except OnnxplainError:
        return False


@pytest.mark.parametrize("path", ZOO[::8], ids=lambda p: p.stem)
def test_ready_means_that_it_works(path: Path) -> None:
    """With numbers that the doctor did not try."""
    model = ox.load(path, device="cpu", threads=1)
    found, feeds = inspect(model), noise(model, 100)
    assert found.ready == works(lambda: ox.gradient(model, feeds))
    assert found.lift_cam.startswith("ready") == works(
        lambda: ox.cam(model, feeds, kind="lift_cam")
    )
    if not found.lift_cam.startswith("ready"):
        assert "not possible" in found.lift_cam


def test_straight_through_ops_are_named() -> None:
    found = inspect(ox.load(ROOT / "models" / "vgg_cifar10_int8.onnx", device="cpu"))
    assert found.verdict == "ready with straight-through ops: DequantizeLinear, QuantizeLinear"
    assert found.lift_cam.startswith("ready, not exact: DequantizeLinear: straight-through")


def test_what_the_runtime_refuses_is_not_ready() -> None:
    """A pooling over four axes is valid ONNX, its gradient can be written, and nobody can run it."""
    net = nets.build(
        "(float[N, 1, 1, 8, 8, 3] x) => (float[N, 48] z)",
        "p = MaxPool<kernel_shape = [1, 2, 2, 1], strides = [1, 2, 2, 1]>(x) z = Flatten(p)",
    )
    found = inspect(nets.load(net))
    assert not found.ready
    assert found.verdict.startswith("not explainable because onnxruntime")
    assert "Unsupported pooling size" in found.verdict
    assert "ONNXRuntimeError" not in found.verdict


def test_a_gradient_of_zero_is_not_ready() -> None:
    net = nets.linear_net(np.zeros((4, 3, 8, 8)))
    assert "zero" in inspect(nets.load(net)).verdict
    assert not inspect(nets.load(net)).ready


def test_an_op_without_a_rule_is_named() -> None:
    net = nets.build("(float[N, 4] x) => (float[N, 4] y)", "a = Relu(x) y = my.Strange(a)")
    net.opset_import.append(helper.make_opsetid("my", 1))
    found = inspect(nets.load(net))
    assert found.verdict.startswith("not explainable because Strange")


def test_an_op_of_another_domain_is_not_taken_for_the_standard_one() -> None:
    net = nets.build("(float[N, 4] x) => (float[N, 4] y)", "a = Relu(x) y = my.Relu(a)")
    net.opset_import.append(helper.make_opsetid("my", 1))
    assert "domain 'my'" in inspect(nets.load(net)).verdict


# --- doubts --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("a = LeakyRelu<alpha = 2.5e-43>(x)", "memory that was never written"),
        ("a = LeakyRelu<alpha = 0.0>(x)", "makes it a Relu"),
        ("a = InstanceNormalization<epsilon = 0.0>(x, s, s)", "divides by zero"),
        ("a = InstanceNormalization<epsilon = 2.6e15>(x, s, s)", "larger than what it is added to"),
    ],
)
def test_numbers_that_nobody_meant(body: str, says: str) -> None:
    net = nets.build(
        "(float[N, 3, 8, 8] x) => (float[N, 3] z)",
        f"{body} p = GlobalAveragePool(a) z = Flatten(p)",
        s=np.ones(3, np.float32),
    )
    (doubt,) = inspect(nets.load(net)).doubts
    assert says in doubt and body[4:13] in doubt


def test_sound_nets_raise_no_doubts() -> None:
    for path in ZOO[::3]:
        assert not doubts(ox.load(path, device="cpu").graph.nodes), path


@pytest.mark.parametrize("name", ["paddle_leakyrelu", "paddle_groupnorm"])
def test_wrong_numbers_that_a_real_exporter_wrote(name: str, shared: Path) -> None:
    model = ox.load(shared / f"data/exports/invalid/{name}.onnx", device="cpu")
    assert inspect(model).doubts


# --- words for what is broken --------------------------------------------------------------------------
def broken(change: str) -> bytes:
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17, "own": 1]> net (float[N, 4] x) => (float[N, 4] y)'
        '{ a = Relu(x) y = own.F(a) } <domain: "own", opset_import: ["": 17]> F (p) => (q) { q = Abs(p) }'
    )
    (relu, call), weight = (
        model.graph.node,
        onnx.numpy_helper.from_array(np.ones(4, np.float32), "w"),
    )
    if change == "missing op":
        relu.op_type = "Erfc"
    elif change == "later op":
        relu.op_type = "Gelu"
    elif change == "call":
        call.input.append("a")
    elif change == "header":
        weight.dims[:] = [0, 1 << 62]
        weight.ClearField("raw_data")
        model.graph.initializer.append(weight)
    data = model.SerializeToString()
    return data.replace(b"Relu", b"R\xfflu") if change == "text" else data


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("missing op", "Erfc .* is no ONNX operator"),
        ("later op", "Gelu .* is not in opset 17: export the model with a later one"),
        ("call", r"F \(node .*gives the model's function of this name 2 inputs .* it has 1 and 1"),
        ("header", "tensor 'w' claims sizes .*more than any layer has"),
        ("text", "node 0 of its graph holds text that is not UTF-8"),
    ],
)
def test_broken_files_are_told_what_is_broken(tmp_path: Path, change: str, says: str) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(broken("nothing"))
    ox.load(path, device="cpu")
    path.write_bytes(broken(change))
    with pytest.raises(ModelError, match=says) as caught:
        ox.load(path, device="cpu")
    assert str(path) in str(caught.value)

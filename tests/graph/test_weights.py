"""Large weights: mapped, held once, fed or handed to sessions; the same numbers whichever way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import TensorProto, numpy_helper

import onnxplain as ox
from onnxplain.errors import ModelError
from onnxplain.executor import Executor
from onnxplain.graph import export, weights
from onnxplain.graph.load import read_model
from onnxplain.methods.registry import explain
from tests import nets

WIDE = nets.conv_net(
    w1=(64, 3, 3, 3), b1=(64,), w2=(5, 64, 3, 3), w3=(600, 20), b3=(600,), w4=(4, 600)
)
PRODUCTS = nets.build(
    "(float[N, 40] x) => (float[N, 4] z)",
    "t = Transpose(w1) m = MatMul(x, t) r = Relu(m) s = MatMul(r, w2) n = BatchNormalization(s, g, b, e, v)"
    "z = MatMul(n, w3)",
    w1=(60, 40), w2=(60, 50), w3=(50, 4), g=(50,), b=(50,), e=(50,), v=np.ones(50, np.float32),
)  # fmt: skip


def saved(proto: onnx.ModelProto, folder: Path) -> Path:
    """Write a model with all its weights in one external file."""
    path = folder / "net.onnx"
    copy = onnx.ModelProto.FromString(proto.SerializeToString())
    onnx.save(copy, path, save_as_external_data=True, location="net.bin", size_threshold=0)
    return path


@pytest.fixture
def all_fed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make any weight a large one, and any model a large model."""
    for name in ("_BESIDE", "_FED", "_MANY"):
        monkeypatch.setattr(export, name, 64)
    monkeypatch.setattr(weights, "LARGE", 64)


@pytest.fixture
def all_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make any weight one that sessions are handed."""
    monkeypatch.setattr(export, "_BESIDE", 64)


def test_large_weights_are_views_of_their_file(tmp_path: Path) -> None:
    file = read_model(saved(WIDE, tmp_path))
    assert set(file.weights) == {"w1", "w2", "w3", "w4"}  # the biases are small
    for name, value in file.weights.items():
        (tensor,) = (t for t in WIDE.graph.initializer if t.name == name)
        np.testing.assert_array_equal(value, numpy_helper.to_array(tensor))
        assert not value.flags.owndata and not value.flags.writeable
    assert {t.name for t in file.proto.graph.initializer} == {"b1", "b2", "b3", "b4"}


def test_what_is_not_aligned_in_its_file_is_still_read_right(tmp_path: Path) -> None:
    path = saved(WIDE, tmp_path)
    model = onnx.load(path, load_external_data=False)
    data = tmp_path / "net.bin"
    data.write_bytes(b"\0" + data.read_bytes())
    for tensor in model.graph.initializer:
        info = {e.key: e for e in tensor.external_data}
        info["offset"].value = str(int(info["offset"].value) + 1)
    path.write_bytes(model.SerializeToString())
    x = nets.images()
    found, expected = (nets.load(p).predict(x).logits for p in (path, WIDE))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("way", ["all_fed", "all_beside"])
@pytest.mark.parametrize("method", ["gradient", "positive", "lift_cam", "grad_cam"])
def test_every_way_gives_the_same(
    way: str, method: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    x = nets.images()
    expected = explain(nets.load(WIDE), x, method)
    request.getfixturevalue(way)
    model = nets.load(saved(WIDE, tmp_path))
    np.testing.assert_allclose(explain(model, x, method).values, expected.values, atol=2e-6)


@pytest.mark.usefixtures("all_fed")
def test_sessions_read_the_mapped_file_itself(tmp_path: Path) -> None:
    path = saved(WIDE, tmp_path)
    file, model = read_model(path), nets.load(path)
    ox.gradient(model, nets.images())
    program = model.program(("z",), ("x",))
    sessions = [model._session(("z",)), program.forward_session, program._backward_session]
    for session in sessions:
        assert {"w3", "w4"} <= set(session._fed)
        assert not {"w3", "w4"} & set(session.inputs)
    for name in ("w3", "w4"):
        held = [session._fed[name] for session in sessions]
        assert all(np.shares_memory(value, held[0]) for value in held)
        assert not held[0].flags.owndata
        np.testing.assert_array_equal(held[0], file.weights[name])


@pytest.mark.usefixtures("all_fed")
def test_products_by_transposed_and_normalised_weights(tmp_path: Path) -> None:
    x = nets.images(3, (40,))
    model = nets.load(saved(PRODUCTS, tmp_path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "_BESIDE", 1 << 30)
        plain = nets.load(PRODUCTS)
        expected = plain.predict(x).logits, ox.gradient(plain, x, 1).values
    np.testing.assert_allclose(model.predict(x).logits, expected[0], atol=1e-5)
    np.testing.assert_allclose(ox.gradient(model, x, 1).values, expected[1], atol=1e-5)
    backward = model.program(("z",), ("x",))._backward_session
    assert {"w2", "w3"} <= set(backward._fed)


def test_turned_weights_are_written_where_they_are_read() -> None:
    """A forward that handed them on would copy them in each run."""
    program = nets.load(PRODUCTS).program(("z",), ("x",))
    forward, backward = (
        onnx.load_from_string(part().model).graph
        for part in (program.pair.forward, program.pair.backward)
    )
    assert "Transpose" not in {node.op_type for node in forward.node}
    assert "Transpose" in {node.op_type for node in backward.node}


def test_the_digest_covers_the_weights_file(tmp_path: Path) -> None:
    path = saved(WIDE, tmp_path)
    before = read_model(path).sha256
    assert before == read_model(path).sha256
    data = bytearray((tmp_path / "net.bin").read_bytes())
    data[100] ^= 1
    (tmp_path / "net.bin").write_bytes(data)
    assert read_model(path).sha256 != before


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("length", "8", "claims"),
        ("offset", "-4", "too short"),
        ("offset", str(1 << 62), "too short"),
        ("offset", "x", "broken external position"),
        ("length", "-1", "claims"),
        ("location", "net\0.bin", "cannot be read"),
        ("location", ".", "missing"),
    ],
)
def test_lying_external_positions(tmp_path: Path, key: str, value: str, says: str) -> None:
    path = saved(WIDE, tmp_path)
    model = onnx.load(path, load_external_data=False)
    tensor = next(t for t in model.graph.initializer if t.name == "w3")
    info = {e.key: e for e in tensor.external_data}
    info[key].value = value
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=says) as caught:
        read_model(path)
    assert str(path) in str(caught.value)


def test_a_header_of_an_external_tensor_allocates_nothing(tmp_path: Path) -> None:
    path = saved(WIDE, tmp_path)
    model = onnx.load(path, load_external_data=False)
    tensor = next(t for t in model.graph.initializer if t.name == "w3")
    tensor.dims[:] = [1 << 30, 20]
    del tensor.external_data[1:]
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="too short"):
        read_model(path)


def test_the_given_proto_is_left_as_it_was() -> None:
    before = WIDE.SerializeToString()
    ox.load(WIDE, device="cpu")
    assert WIDE.SerializeToString() == before


def test_packed_and_small_external_tensors_are_read_in(tmp_path: Path) -> None:
    """Types that NumPy has no dtype for stay in the proto, where rewrites of stored weights find them."""
    levels = onnx.helper.make_tensor("q", TensorProto.INT4, [8, 8], np.arange(64) % 8)
    net = nets.build(
        "(float[N, 8] x) => (float[N, 8] z)", "d = DequantizeLinear(q, s) z = MatMul(x, d)", opset=21,
        s=np.array(0.5, np.float32),
    )  # fmt: skip
    net.graph.initializer.append(levels)
    x = nets.images(2, (8,))
    expected = nets.load(net).predict(x).logits
    found = nets.load(saved(net, tmp_path)).predict(x).logits
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(found, x @ ((np.arange(64) % 8).reshape(8, 8) * 0.5), rtol=1e-5)


def test_more_than_a_protobuf_message_holds(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    with path.open("wb") as file:
        file.truncate(1 << 31)  # takes no room on the disk
    with pytest.raises(ModelError, match=r"larger than 2 GB.*save_as_external_data"):
        read_model(path)


def test_a_part_is_a_whole_model_where_weights_are_small() -> None:
    graph = nets.load(nets.conv_net()).graph.nodes
    part = export.export(graph, graph.nodes, graph.inputs, graph.outputs)
    assert not part.beside and not part.fed
    onnx.checker.check_model(onnx.load_from_string(part.model), full_check=True)
    x = nets.images()
    (found,) = Executor("cpu").session(part).run({"x": x}).values()
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)


def test_sparse_constants_stay_sparse() -> None:
    values = numpy_helper.from_array(np.ones(2, np.float32), "s")
    indices = numpy_helper.from_array(np.array([0, 3]), "i")
    proto = onnx.helper.make_sparse_tensor(values, indices, [4])
    constant: Any = gs.Constant("s", gs.ir.tensor.SparseValues(proto))
    y = gs.Variable("y", np.float32, ["N", 4])
    x = gs.Variable("x", np.float32, ["N", 4])
    node = gs.Node("Add", inputs=[x, constant], outputs=[y])
    part = export.export(gs.Graph([node], [x], [y], opset=18, name="g"), [node], [x], [y])
    assert len(onnx.load_from_string(part.model).graph.sparse_initializer) == 1

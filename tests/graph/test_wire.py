"""Raw bytes taken out of a serialised model: the same model as protobuf's own parse, whatever the bytes."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper

from onnxplain.bundled import model_path
from onnxplain.errors import ModelError
from onnxplain.graph import load, weights, wire
from onnxplain.graph.load import ModelFile, read_model
from onnxplain.graph.wire import strip
from tests import nets
from tests.zoo.measure import ZOO

LEAST = 64
NET = nets.conv_net(w1=(4, 3, 3, 3), w3=(6, 20)).SerializeToString()
FILES = [model_path(), model_path("vgg_cifar10_int8.onnx"), *sorted(ZOO.glob("*.onnx"))]
TYPES = [
    np.float16, np.float32, np.float64, np.int8, np.uint8, np.int16, np.int32, np.int64, np.uint64, np.bool_,
    ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.int4,
]  # fmt: skip


def parsed(data: bytes) -> bytes | None:
    """Return a model as protobuf understands it; None where it does not."""
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError:
        return None
    return proto.SerializeToString(deterministic=True)


def put_back(data: bytes, least: int = LEAST) -> bytes | None:
    """Return the same by way of `strip`."""
    light, raw = strip(data, least)
    if (read := parsed(light)) is None:
        return None
    proto = onnx.ModelProto.FromString(read)
    for i, place in raw.items():
        assert proto.graph.initializer[i].raw_data == b""
        proto.graph.initializer[i].raw_data = data[place]
    return proto.SerializeToString(deterministic=True)


def model_of(*tensors: TensorProto) -> onnx.ModelProto:
    """Return a model with initializers that nothing reads."""
    proto = nets.build("(float[N, 3] x) => (float[N, 3] y)", "y = Relu(x)", opset=21)
    proto.graph.initializer.extend(tensors)
    return proto


def tensor(name: str, kind: type = np.float32, count: int = 6000) -> TensorProto:
    """Return a large tensor of a type."""
    values = np.arange(count).reshape(2, -1) % 7
    return numpy_helper.from_array(values.astype(kind), name)


def stored(file: ModelFile) -> dict[str, bytes]:
    """Return type, sizes and bytes of every initializer, wherever they were put."""
    beside = {k: numpy_helper.from_array(v, k) for k, v in file.weights.items()}
    return bits(beside | {t.name: t for t in file.proto.graph.initializer})


def bits(tensors: dict[str, TensorProto]) -> dict[str, bytes]:
    return {
        k: str((t.data_type, t.dims)).encode() + numpy_helper.to_array(t).tobytes()
        for k, t in tensors.items()
    }


# --- strip ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_light_model_and_weights_are_what_onnx_loads(path: Path) -> None:
    data = path.read_bytes()
    assert put_back(data) == parsed(data)
    file = read_model(path)
    named = {e.value for t in onnx.load(path, load_external_data=False).graph.initializer
             for e in t.external_data if e.key == "location"}  # fmt: skip
    beside = b"".join((path.parent / name).read_bytes() for name in sorted(named))
    assert file.sha256 == hashlib.sha256(data + beside).hexdigest()
    assert stored(file) == bits({t.name: t for t in onnx.load(path).graph.initializer})


def test_large_raw_bytes_are_not_in_the_light_model() -> None:
    light, raw = strip(NET, LEAST)
    assert [raw[i].stop - raw[i].start for i in (0, 2, 4)] == [4 * 108, 4 * 180, 4 * 120]
    assert len(light) < len(NET) - 4 * (108 + 180 + 120)


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_damaged_bytes_are_read_as_protobuf_reads_them(data: st.DataObject) -> None:
    mutated = bytearray(NET)
    where = st.integers(0, len(NET) - 1)
    for _ in range(data.draw(st.integers(1, 3))):
        at, stop = data.draw(where), data.draw(where)
        match data.draw(st.sampled_from(["set", "insert", "delete", "repeat", "cut"])):
            case "set":
                mutated[at : at + 1] = bytes([data.draw(st.integers(0, 255))])
            case "insert":
                mutated[at:at] = data.draw(st.binary(min_size=1, max_size=12))
            case "delete":
                del mutated[at : at + 1 + stop % 8]
            case "repeat":
                mutated[at:at] = mutated[at:stop]
            case "cut":
                del mutated[at:]
    assert put_back(bytes(mutated)) == parsed(bytes(mutated))
    try:
        read_model(bytes(mutated))
    except ModelError as error:
        assert "the given bytes" in str(error)


def field(number: int, content: bytes) -> bytes:
    """Return a delimited field, its length written in more bytes than it needs."""
    length = bytes([len(content) & 0x7F | 0x80, len(content) >> 7 & 0x7F | 0x80, 0])
    return bytes([number << 3 | 2]) + length + content


BIG = bytes([8, 100, 16, 3]) + field(8, b"w") + field(9, bytes(range(100)))
"""A tensor of 100 int8."""


@given(st.lists(st.sampled_from(["graph", "unknown", "number"]), max_size=3))
@example(["graph", "graph"])
def test_odd_models_are_left_to_protobuf(parts: list[str]) -> None:
    """Several graphs, which protobuf merges; lengths in more bytes than need be; fields nobody knows."""
    made = {"graph": field(7, field(5, BIG)), "unknown": field(15, b"?"), "number": b"\x38\x05"}
    data = b"".join(made[part] for part in parts)
    assert put_back(data) == parsed(data)
    assert bool(strip(data, LEAST)[1]) == (parts.count("graph") == 1)


@pytest.mark.parametrize(
    ("content", "plain"),
    [
        (BIG, True),
        (field(9, bytes(100)) + BIG, False),  # twice: the last one counts
        (BIG + bytes([0x4B, 0x4C]), False),  # a group
        (BIG + bytes([0x48, 5]), True),  # raw_data as a number is an unknown field
        (BIG + bytes([8, 1]) * 200, False),  # more sizes than an array has axes
        (BIG[:-1], False),
        (BIG + b"\x80" * 11, False),
        (BIG + b"\x0d123", False),
        (bytes([0x88, 0x80, 0x80, 0x80, 0x80, 0]) + BIG, False),  # a tag of six bytes
        (BIG[:9] + bytes([0xCA, 0x80, 0]) + BIG[10:], True),  # the tag of raw_data in three bytes
    ],
)  # fmt: skip
def test_odd_tensors_are_left_to_protobuf(content: bytes, plain: bool) -> None:
    data = field(7, field(5, content) + field(5, BIG))
    assert put_back(data) == parsed(data)
    assert strip(data, LEAST)[1].keys() == ({0, 1} if plain else {1})


def test_more_fields_than_a_file_has_are_not_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"\x0a\x00" * 99 + field(7, field(5, BIG))
    assert strip(data, LEAST)[1]
    monkeypatch.setattr(wire, "_MOST_PARTS", 99)
    assert strip(data, LEAST) == (data, {})


# --- reading ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shift", range(4))
@pytest.mark.parametrize("kind", TYPES, ids=lambda t: t.__name__)
def test_every_type_at_every_alignment(kind: type, shift: int, tmp_path: Path) -> None:
    proto = model_of(tensor("a" * (1 + shift), kind), tensor("b", kind))
    path = tmp_path / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    expected = bits({t.name: t for t in proto.graph.initializer})
    for source in (path, path.read_bytes(), proto):
        file = read_model(source)
        assert stored(file) == expected
        assert bool(file.weights) == (np.dtype(kind).kind in "fiub")
        for value in file.weights.values():
            assert value.flags.aligned and value.flags.c_contiguous and not value.flags.writeable


def test_what_stays_in_the_model_gets_its_bytes_back() -> None:
    """Two of one name or without one, 4 bits, subgraphs, sparse: nothing but plain weights is taken."""
    proto = model_of(
        tensor("w"), tensor("twice"), tensor("twice"), tensor(""), tensor("small", count=8)
    )
    inner = onnx.helper.make_graph(
        [], "g", [], [onnx.helper.make_tensor_value_info("s", TensorProto.FLOAT, [2, 3000])],
        [tensor("s")],
    )  # fmt: skip
    values, indices = tensor("sparse", count=2000), np.arange(2000) * 2
    values.dims[:] = [2000]
    sparse = onnx.helper.make_sparse_tensor(
        values, numpy_helper.from_array(indices, "indices"), [4000]
    )
    proto.graph.sparse_initializer.append(sparse)
    proto.graph.input.append(onnx.helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    proto.graph.node.append(
        onnx.helper.make_node("If", ["c"], ["o"], then_branch=inner, else_branch=inner)
    )
    light, raw = strip(proto.SerializeToString(), weights.LARGE)
    read = onnx.ModelProto.FromString(light)
    weights.check_headers(read.graph, raw, "net")
    held = {i: proto.graph.initializer[i].raw_data for i in range(4)}
    assert raw.keys() == held.keys()
    taken = weights.take_out(read, held, weights.External("net", None))
    assert taken.keys() == {"w"}
    np.testing.assert_array_equal(taken["w"], numpy_helper.to_array(proto.graph.initializer[0]))
    expected = onnx.ModelProto.FromString(proto.SerializeToString())
    del expected.graph.initializer[0]
    w = onnx.helper.make_tensor_value_info("w", TensorProto.FLOAT, [2, 3000])
    expected.graph.input.append(w)
    assert read == expected


@pytest.mark.parametrize("way", ["path", "bytes", "proto"])
def test_a_size_that_is_not_that_of_the_bytes(way: str, tmp_path: Path) -> None:
    proto = model_of(tensor("w"))
    proto.graph.initializer[0].dims[:] = [2, 3001]
    path = tmp_path / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    source = {"path": path, "bytes": path.read_bytes(), "proto": proto}[way]
    with pytest.raises(ModelError, match=r"'w' claims \[2, 3001\] but holds 24000 bytes"):
        read_model(source)


def test_a_model_does_not_change_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(model_of(tensor("w")).SerializeToString())
    file = read_model(path)
    with path.open("r+b") as opened:  # in place, as cp does
        opened.write(bytes(path.stat().st_size))
    np.testing.assert_array_equal(file.weights["w"], numpy_helper.to_array(tensor("w")))


def test_a_file_that_becomes_shorter_while_it_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = model_of(tensor("w")).SerializeToString()
    monkeypatch.setattr(load, "_mapped", lambda _: (io.BytesIO(data[: len(data) // 2]), data))
    (tmp_path / "net.onnx").write_bytes(data)
    with pytest.raises(ModelError, match=r"net\.onnx: became shorter while it was read"):
        read_model(tmp_path / "net.onnx")


def test_a_pipe(tmp_path: Path) -> None:
    data = model_of(tensor("w")).SerializeToString()
    path = tmp_path / "net.onnx"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(data,))
    writer.start()
    file = read_model(path)
    writer.join()
    assert file.sha256 == hashlib.sha256(data).hexdigest()
    np.testing.assert_array_equal(file.weights["w"], numpy_helper.to_array(tensor("w")))

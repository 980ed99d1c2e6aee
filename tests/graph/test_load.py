"""Bad and hostile files: one typed error each that names the file and the way out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import parser

from onnxplain.errors import ModelError, OnnxplainError
from onnxplain.graph.canonical import import_graph
from onnxplain.graph.load import read_model
from onnxplain.model import load

TEXT = """
<ir_version: 8, opset_import: ["": 18]>
net (float[N, 3, 8, 8] x) => (float[N, 4] y) <float[4, 3, 3, 3] w> {
    c = Conv <pads = [1, 1, 1, 1]> (x, w)
    r = Relu (c)
    p = GlobalAveragePool (r)
    y = Flatten (p)
}
"""


def small_model() -> onnx.ModelProto:
    model = parser.parse_model(TEXT)
    weights = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    del model.graph.initializer[:]
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    return model


@pytest.fixture
def with_external_data(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    onnx.save(small_model(), path, save_as_external_data=True, location="net.bin", size_threshold=0)
    return path


def test_path_bytes_and_proto_are_the_same_model(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(small_model(), path)
    files = [read_model(path), read_model(str(path)), read_model(path.read_bytes())]
    files.append(read_model(onnx.load(path)))
    assert len({f.sha256 for f in files}) == 1
    assert all(f.proto == files[0].proto for f in files)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"this is a text file\n" * 20, "not"),
        (bytes(range(256)) * 8, "not"),
    ],
)
def test_what_is_not_a_model_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=says) as caught:
        read_model(path)
    assert "bad.onnx" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_truncated_file(tmp_path: Path, share: float) -> None:
    data = small_model().SerializeToString()
    path = tmp_path / "cut.onnx"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ModelError, match=r"cut\.onnx"):
        read_model(path)


def test_missing_file_folder_and_nothing_at_all(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        read_model(tmp_path / "absent.onnx")
    with pytest.raises(ModelError, match="folder"):
        read_model(tmp_path)
    with pytest.raises(ModelError, match="ModelProto: is empty"):
        read_model(onnx.ModelProto())
    with pytest.raises(ModelError, match="not int"):
        read_model(7)  # type: ignore[arg-type]


def test_external_data_is_read(with_external_data: Path) -> None:
    weights = read_model(with_external_data).proto.graph.initializer[0]
    expected = small_model().graph.initializer[0]
    np.testing.assert_array_equal(
        onnx.numpy_helper.to_array(weights), onnx.numpy_helper.to_array(expected)
    )


def test_external_data_missing_or_short(with_external_data: Path) -> None:
    data = with_external_data.with_name("net.bin")
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(ModelError, match="too short"):
        read_model(with_external_data)
    data.unlink()
    with pytest.raises(ModelError, match=r"'net\.bin' is missing"):
        read_model(with_external_data)


def test_external_data_needs_a_path(with_external_data: Path) -> None:
    with pytest.raises(ModelError, match="load the model by its path"):
        read_model(with_external_data.read_bytes())


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "a/../../secret.bin", ""])
def test_external_data_outside_the_folder(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(1000))
    model = small_model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="outside the model's folder"):
        read_model(folder / "net.onnx")


def test_external_data_behind_a_link_out_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(1000))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    model = small_model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="link.bin")
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="outside the model's folder"):
        read_model(folder / "net.onnx")


def test_a_header_that_claims_more_than_it_holds(tmp_path: Path) -> None:
    model = small_model()
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([1 << 30, 3, 3, 3])
    with pytest.raises(ModelError, match="claims"):
        read_model(model)


def test_cycle_unknown_op_and_no_nodes() -> None:
    cyclic = parser.parse_graph("g (float[2] x) => (float[2] y) { y = Add(x, z) z = Relu(y) }")
    model = onnx.helper.make_model(cyclic, opset_imports=[onnx.helper.make_opsetid("", 18)])
    with pytest.raises(ModelError):
        read_model(model)
    unknown = parser.parse_graph("g (float[2] x) => (float[2] y) { y = Erfc(x) }")
    model = onnx.helper.make_model(unknown, opset_imports=[onnx.helper.make_opsetid("", 18)])
    with pytest.raises(ModelError, match="Erfc"):
        read_model(model)
    empty = onnx.helper.make_graph([], "empty", [], [])
    with pytest.raises(ModelError, match="no nodes"):
        import_graph(read_model(onnx.helper.make_model(empty)).proto)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10_000), st.integers(0, 255), st.integers(1, 4))
def test_mutated_bytes_never_raise_anything_else(at: int, value: int, count: int) -> None:
    data = bytearray(small_model().SerializeToString())
    for i in range(count):
        data[(at * (i + 1)) % len(data)] = value
    try:
        load(bytes(data))
    except OnnxplainError as error:
        assert len(str(error)) < 2000

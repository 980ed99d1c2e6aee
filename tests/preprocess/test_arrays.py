"""arrays.py: files that hold model input already are checked and otherwise taken as they are."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import onnx
import pytest

from onnxplain.errors import InputError
from onnxplain.preprocess import InputSpec, Preprocess, check_array, displayed, read

SPEC = InputSpec("image", (3, 4, 5), np.dtype("float32"))
PRE = Preprocess.preset("imagenet")


@pytest.fixture
def x(rng) -> np.ndarray:
    return rng.standard_normal((2, 3, 4, 5)).astype(np.float32)


def test_npy_npz_and_pb_are_taken_as_they_are(x, tmp_path) -> None:
    np.save(tmp_path / "batch.npy", x)
    np.save(tmp_path / "one.npy", x[0])
    np.savez(tmp_path / "a.npz", x)
    np.savez_compressed(tmp_path / "b.npz", other=np.zeros(3), image=x)
    (tmp_path / "t.pb").write_bytes(onnx.numpy_helper.from_array(x).SerializeToString())
    names = ("batch.npy", "one.npy", "a.npz", "b.npz", "t.pb")
    got = read([tmp_path / name for name in names], SPEC, PRE)
    np.testing.assert_array_equal(got, np.concatenate([x, x[:1], x, x, x]))


def test_arrays_and_pictures_mix(x, tmp_path) -> None:
    np.save(tmp_path / "x.npy", x)
    picture = np.full((4, 5, 3), 90, np.uint8)
    pre = Preprocess.preset("raw")
    got = read([picture, tmp_path / "x.npy"], SPEC, pre)
    np.testing.assert_array_equal(got, np.concatenate([np.full((1, 3, 4, 5), 90, "f4"), x]))


def test_an_array_is_displayed_as_the_picture_it_came_from(tmp_path, rng) -> None:
    picture = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    pre = Preprocess.preset("imagenet", resize="none")
    np.save(tmp_path / "x.npy", read(picture, SPEC, pre))
    np.testing.assert_array_equal(displayed(tmp_path / "x.npy", SPEC, pre), picture)


def test_inputs_that_are_no_pictures_take_arrays(tmp_path) -> None:
    spec = InputSpec("v", (10,), np.dtype("float32"))
    np.save(tmp_path / "v.npy", np.arange(10, dtype=np.float32))
    np.testing.assert_array_equal(read(tmp_path / "v.npy", spec, PRE), [np.arange(10)])


def test_open_dimensions_take_any_size(x) -> None:
    spec = InputSpec("image", (3, -1, -1), np.dtype("float32"))
    assert check_array(x, spec) is x


def test_float_types_are_cast_others_refused(x) -> None:
    half = InputSpec("image", (3, 4, 5), np.dtype("float16"))
    np.testing.assert_array_equal(check_array(x.astype(np.float64), half), x.astype(np.float16))
    with pytest.raises(InputError, match=r"holds uint8.*wants float32"):
        check_array(np.zeros((3, 4, 5), np.uint8), SPEC)
    whole = InputSpec("image", (3, 4, 5), np.dtype("uint8"))
    with pytest.raises(InputError, match=r"holds float32.*wants uint8"):
        check_array(x, whole)


def test_numbers_that_are_none_are_counted(x) -> None:
    x[0, 0, 0, :2] = np.nan
    x[1, 2, 3, 4] = -np.inf
    with pytest.raises(InputError, match=r"input 'image': 3 of 120 numbers are NaN or infinite"):
        check_array(x, SPEC)
    half = InputSpec("image", (3, 4, 5), np.dtype("float16"))
    with pytest.raises(InputError, match=r"1 of 60 .*float16"):
        check_array(np.where(np.arange(60) == 7, 1e6, 0).reshape(3, 4, 5), half)


@pytest.mark.parametrize(
    "shape", [(1, 4, 4, 5), (4, 5, 3), (2, 2, 3, 4, 5), (), (0, 3, 4, 5), (3, 4)]
)
def test_wrong_shapes_name_both(shape) -> None:
    with pytest.raises(InputError) as caught:
        check_array(np.zeros(shape, np.float32), SPEC)
    assert f"has shape {list(shape)}, input 'image' wants [N, 3, 4, 5] (NCHW)" in str(caught.value)


# --- broken or hostile files ----------------------------------------------------------------------


def npy_claiming(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    buffer = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue() + b"\0" * 64


def test_headers_that_promise_too_much(tmp_path) -> None:
    lie = npy_claiming((1 << 20, 1 << 20))
    (tmp_path / "a.npy").write_bytes(lie)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("image.npy", lie)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(InputError, match=rf"{name[:1]}\.{name[2:]}"):
            read(tmp_path / name, SPEC, PRE)


def test_pickles_are_never_loaded(tmp_path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}]), allow_pickle=True)
    np.savez(tmp_path / "a.npz", np.array([{"a": 1}]))
    for name in ("a.npy", "a.npz"):
        with pytest.raises(InputError, match="cannot be read as an array"):
            read(tmp_path / name, SPEC, PRE)


def test_external_data_is_not_followed(tmp_path) -> None:
    (tmp_path / "secret").write_bytes(b"\0" * 240)
    tensor = onnx.TensorProto(dims=[1, 3, 4, 5], data_type=1, data_location=1)
    tensor.external_data.add(key="location", value="secret")
    (tmp_path / "t.pb").write_bytes(tensor.SerializeToString())
    with pytest.raises(InputError, match="lies in another file"):
        read(tmp_path / "t.pb", SPEC, PRE)


@pytest.mark.parametrize("suffix", ["npy", "npz", "pb"])
@pytest.mark.parametrize("data", [b"", b"rubbish, no array at all"], ids=["empty", "rubbish"])
def test_rubbish(suffix, data, tmp_path) -> None:
    (tmp_path / f"a.{suffix}").write_bytes(data)
    with pytest.raises(InputError, match=rf"a\.{suffix}"):
        read(tmp_path / f"a.{suffix}", SPEC, PRE)
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / f"missing.{suffix}", SPEC, PRE)


def test_npz_with_several_arrays_needs_the_name(x, tmp_path) -> None:
    np.savez(tmp_path / "a.npz", first=x, second=x)
    with pytest.raises(InputError, match="holds first, second; keep one, or name it 'image'"):
        read(tmp_path / "a.npz", SPEC, PRE)

"""files.py: whole or not at all, whatever goes wrong on the way."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from onnxplain import files
from onnxplain.errors import OutputError
from onnxplain.files import atomic_write, read_npz, write_npz, write_text


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def failing_with(error: BaseException):
    """Write half of it, then fail."""

    def write(file: BinaryIO) -> None:
        file.write(b"half")
        raise error

    return write


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.txt"
    write_text(path, "ä")
    assert path.read_bytes() == "ä".encode()
    atomic_write(path, lambda file: file.write(b"second"))
    assert path.read_bytes() == b"second"
    assert names(path.parent) == ["a.txt"]


def test_new_file_has_the_permissions_of_the_umask(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "x")
    (tmp_path / "b").touch()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


@pytest.mark.parametrize("before", [None, b"before"])
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), OutputError),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES)), OutputError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (MemoryError(), MemoryError),
        (ValueError("a bug in the writer"), ValueError),
    ],
)
def test_failure_leaves_what_was_there(tmp_path, before, error, expected) -> None:
    path = tmp_path / "a.bin"
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(expected):
        atomic_write(path, failing_with(error))
    assert names(tmp_path) == ([] if before is None else ["a.bin"])
    assert before is None or path.read_bytes() == before


def test_message_names_the_path_and_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(OutputError, match=r"a\.bin.*No space left"):
        atomic_write(path, failing_with(full))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux' /dev/full")
def test_a_device_is_never_replaced() -> None:
    with pytest.raises(OutputError, match="not a regular file"):
        write_text("/dev/full", "x")
    assert Path("/dev/full").is_char_device()


def test_folder_and_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for path in (tmp_path, tmp_path / "file" / "below.txt", tmp_path / ("n" * 300)):
        with pytest.raises(OutputError):
            write_text(path, "x")
    assert names(tmp_path) == ["file"]


def test_interrupt_while_reaching_the_disk(tmp_path: Path, monkeypatch) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / "a", "x")
    assert names(tmp_path) == []


# --- arrays ---------------------------------------------------------------------------------------


def test_npz_is_numpys_and_the_same_every_time(tmp_path: Path) -> None:
    grid = np.arange(6.0).reshape(2, 3)
    arrays = {"file": grid, "allow_pickle": np.array("x"), "a b": np.ones(0)}
    write_npz(tmp_path / "a.npz", arrays)
    write_npz(tmp_path / "b.npz", arrays)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz") as numpys:
        ours = read_npz(tmp_path / "a.npz")
        assert list(ours) == list(arrays) == numpys.files
        for name, array in arrays.items():
            np.testing.assert_array_equal(ours[name], array)
            np.testing.assert_array_equal(numpys[name], array)


def test_objects_are_neither_written_nor_read(tmp_path: Path) -> None:
    objects = np.array([{}])
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        write_npz(tmp_path / "a.npz", {"x": objects})
    assert names(tmp_path) == []
    np.savez(tmp_path / "b.npz", objects)
    with pytest.raises(ValueError, match="not a sound"):
        read_npz(tmp_path / "b.npz")


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(files, "MAX_UNPACKED", 10_000)
    np.savez_compressed(tmp_path / "a.npz", small=np.zeros(9), large=np.zeros(1_000_000))
    assert (tmp_path / "a.npz").stat().st_size < files.MAX_UNPACKED
    with pytest.raises(ValueError, match=r"large\.npy unpacks to 8000128 bytes"):
        read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_damaged_npz(share: float, tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", {"x": np.arange(100.0)})
    data = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match="not a sound"):
        read_npz(tmp_path / "a.npz")

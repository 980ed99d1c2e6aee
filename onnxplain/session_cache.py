"""Graphs as onnxruntime has optimised them, on disk for the next process.

An entry is a folder: the graph, and its weights, which a session maps instead of reading them. It is moved
into place whole; what is not as long as it was written is made anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import numpy as np
import onnx

from onnxplain.errors import ConfigError
from onnxplain.version import __version__

log = logging.getLogger("onnxplain")

MOST = 4 << 30
"""Bytes of all entries together; the ones not used for longest make room."""

_ABANDONED = 3600
"""Seconds after which what is being written belongs to a process that was killed."""

GRAPH, WEIGHTS, _SIZES = "graph.onnx", "weights.bin", "sizes.json"


class SessionCache:
    """A folder of optimised graphs; processes may share it."""

    def __init__(self, folder: str | Path, most: int = MOST) -> None:
        """Make the folder where it is missing; raises ConfigError where that fails."""
        self.folder, self.most = Path(folder).absolute(), most
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"the cache {self.folder} cannot be made: {error.strerror}"
            ) from error

    def find(self, key: str) -> Path | None:
        """Return the path of a graph; None where there is none, or only a damaged one."""
        entry = self.folder / key
        try:
            if not entry.exists():
                return None
            if json.loads((entry / _SIZES).read_text()) == _sizes(entry):
                with suppress(OSError):  # a folder that may only be read serves, too
                    os.utime(entry)
                return entry / GRAPH
            why = "its files are not as long as they were written"
        except (OSError, ValueError) as error:
            why = str(error)
        self.drop(key, why)
        return None

    def drop(self, key: str, why: str) -> None:
        """Remove an entry that cannot be used."""
        log.warning("%s is made anew: %s", self.folder / key, why)
        shutil.rmtree(self.folder / key, ignore_errors=True)

    @contextmanager
    def adding(self, key: str, size: int) -> Iterator[Path | None]:
        """Yield a folder to write GRAPH and WEIGHTS (about `size` bytes) into; None where there is no room.

        It becomes the entry when the block is left. Where that fails the log says so.
        """
        place = self.folder / f".{key}-{secrets.token_hex(4)}"
        try:
            self._make_room(size)
            place.mkdir()
        except OSError as error:
            self.not_kept(error)
            yield None
            return
        try:
            yield place
            for name in (GRAPH, WEIGHTS):
                _on_disk(place / name)
            (place / _SIZES).write_text(json.dumps(_sizes(place)))
            try:
                place.rename(self.folder / key)
            except OSError:
                if not (self.folder / key).exists():  # else another process was faster
                    raise
        except OSError as error:
            self.not_kept(error)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def not_kept(self, why: Exception) -> None:
        """Say that a graph could not be kept: whoever explains goes on without."""
        log.warning("%s: nothing is kept: %s", self.folder, why)

    def _make_room(self, size: int) -> None:
        """Remove entries until one of `size` bytes fits; raises OSError where it cannot."""
        entries = sorted((e for e in self.folder.iterdir() if e.is_dir()), key=_used)
        for entry in [e for e in entries if e.name.startswith(".")]:
            if time.time() - _used(entry) > _ABANDONED:
                shutil.rmtree(entry, ignore_errors=True)
                entries.remove(entry)
        free = self.most - sum(map(_size, entries))
        while entries and free < size:
            free += _size(entries[0])
            shutil.rmtree(entries.pop(0), ignore_errors=True)
        free = min(free, shutil.disk_usage(self.folder).free)
        if free < size:
            raise OSError(
                f"a graph of {size / 1e6:.0f} MB needs more than the {free / 1e6:.0f} MB left"
            )


def key_of(graph: bytes, *more: object) -> str:
    """Return the key of a graph, and of all else that decides what onnxruntime makes of it.

    Large weights lie beside the graph. They follow from the file that it names by its digest, and from the
    code of this package, which turns some of them.
    """
    digest = hashlib.sha256(graph)
    versions = __version__, onnx.__version__, np.__version__
    digest.update(repr((more, versions, _code(), _processor())).encode())
    return digest.hexdigest()


@cache
def _code() -> tuple[tuple[str, int, int], ...]:
    """Return names, sizes and times of this package's files."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    return tuple((str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files)


@cache
def _processor() -> str:
    """Return what tells processors apart whose layouts of weights differ."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "".join(sorted({x for x in lines if x.startswith(("model name", "flags", "Features"))}))


def _sizes(entry: Path) -> dict[str, int]:
    return {name: (entry / name).stat().st_size for name in (GRAPH, WEIGHTS)}


def _on_disk(path: Path) -> None:
    """Wait until a file is on the disk: a size that outlives a power failure must mean its bytes."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _size(entry: Path) -> int:
    return sum(file.stat().st_size for file in entry.iterdir())


def _used(entry: Path) -> float:
    return entry.stat().st_mtime

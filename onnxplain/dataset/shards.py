"""Shards: tar files as WebDataset writes them, and Parquet files as the Hugging Face hub has them."""

from __future__ import annotations

import tarfile
from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from onnxplain.dataset.source import PICTURES, Item, Source, key_of_files
from onnxplain.errors import ConfigError, InputError

TAR, PARQUET = (".tar",), (".parquet",)
LABEL_MEMBERS = (".cls", ".label", ".txt")
IMAGE_COLUMNS = ("image", "img", "jpg", "png", "picture")
LABEL_COLUMNS = ("label", "labels", "cls", "class", "fine_label", "target")


class _Member(NamedTuple):
    shard: int
    name: str
    offset: int
    size: int


class Tars(Source):
    """Pictures in uncompressed tar files; beside a picture k.jpg its class may stand in k.cls."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Read the tables of contents; raises InputError for files that are no sound tar files."""
        self._paths = tuple(paths)
        self.name = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
        self._members: list[_Member] = []
        self._classes: dict[tuple[int, str], _Member] = {}
        for shard, path in enumerate(paths):
            self._read_contents(shard, path)
        if not self._members:
            raise InputError(f"{self.name}: no pictures ({', '.join(PICTURES)}) in it")

    def _read_contents(self, shard: int, path: Path) -> None:
        try:
            with tarfile.open(path, "r:") as tar:
                for entry in tar:
                    member = _Member(shard, entry.name, entry.offset_data, entry.size)
                    suffix = Path(entry.name).suffix.lower()
                    if entry.isfile() and suffix in PICTURES:
                        self._members.append(member)
                    elif entry.isfile() and suffix in LABEL_MEMBERS:
                        self._classes.setdefault((shard, _stem(entry.name)), member)
                    tar.members = []  # type: ignore[attr-defined]  # it would keep every header
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
        except tarfile.TarError as error:
            raise InputError(f"{path}: not a sound, uncompressed tar file: {error}") from error

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self._members)

    def item(self, number: int) -> Item:
        """Return an encoded picture."""
        member = self._members[number]
        name = f"{self._paths[member.shard]}:{member.name}"
        beside = self._classes.get((member.shard, _stem(member.name)))
        label = None if beside is None else self._label(beside)
        return Item(name, self._bytes(member), label)

    def key(self) -> str:
        """Return a hash of the shards."""
        return key_of_files(self._paths)

    @cached_property
    def label_names(self) -> tuple[str, ...]:
        """The distinct names among the labels."""
        found = map(self._label, self._classes.values())
        return tuple(sorted({label for label in found if isinstance(label, str)}))

    def _label(self, member: _Member) -> int | str:
        text = self._bytes(member).decode("utf-8", "replace").strip()
        return int(text) if text.isdecimal() else text

    def _bytes(self, member: _Member) -> bytes:
        path = self._paths[member.shard]
        try:
            with path.open("rb") as file:
                file.seek(member.offset)
                return file.read(member.size)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error


class Parquet(Source):
    """Rows of Parquet files: an encoded picture (binary, or a struct with "bytes") and maybe a class."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Read the footers; raises InputError for unsound files, ConfigError without pyarrow."""
        self._paths = tuple(paths)
        self.name = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
        self._groups: list[tuple[Path, int]] = []
        sizes: list[int] = []
        for path in paths:
            footer = self._file(path).metadata
            for group in range(footer.num_row_groups):
                self._groups.append((path, group))
                sizes.append(footer.row_group(group).num_rows)
        self._ends = list(accumulate(sizes))
        if not len(self):
            raise InputError(f"{self.name}: holds no rows")
        columns = self._file(paths[0]).schema_arrow.names
        image = next((c for c in IMAGE_COLUMNS if c in columns), None)
        if image is None:
            raise InputError(
                f"{paths[0]}: has columns {', '.join(columns)}; call the pictures "
                + " or ".join(IMAGE_COLUMNS)
            )
        self._image, self._label = image, next((c for c in LABEL_COLUMNS if c in columns), None)
        self._loaded: tuple[int, list[Any], list[Any] | None] | None = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._ends[-1] if self._ends else 0

    def item(self, number: int) -> Item:
        """Return an encoded picture."""
        group = bisect_right(self._ends, number)
        row = number - (self._ends[group - 1] if group else 0)
        images, labels = self._read(group)
        name = f"{self._groups[group][0]}[{number}]"
        picture = images[row]["bytes"] if isinstance(images[row], dict) else images[row]
        if not isinstance(picture, bytes):
            raise InputError(f"{name}: column {self._image!r} holds no bytes of a picture")
        return Item(name, picture, None if labels is None else labels[row])

    def key(self) -> str:
        """Return a hash of the files."""
        return key_of_files(self._paths)

    @cached_property
    def label_names(self) -> tuple[str, ...]:
        """The distinct names among the labels."""
        if self._label is None:
            return ()
        found: set[str] = set()
        for path in self._paths:
            labels = self._file(path).read(columns=[self._label])[self._label].unique().to_pylist()
            found.update(label for label in labels if isinstance(label, str))
        return tuple(sorted(found))

    def _read(self, group: int) -> tuple[list[Any], list[Any] | None]:
        """Return the pictures and labels of a row group; the last one read is kept."""
        if self._loaded is None or self._loaded[0] != group:
            path, of_file = self._groups[group]
            names = [self._image, *([self._label] if self._label else [])]
            table = self._file(path).read_row_group(of_file, columns=names)
            labels = table[self._label].to_pylist() if self._label else None
            self._loaded = (group, table[self._image].to_pylist(), labels)
        return self._loaded[1:]

    def _file(self, path: Path) -> Any:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise ConfigError(
                f"{path}: reading Parquet needs pyarrow: pip install 'onnxplain[parquet]'"
            ) from error
        try:
            return pq.ParquetFile(path)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{path}: not a sound Parquet file: {error}") from error


def _stem(name: str) -> str:
    """Return a member's name up to the first dot of its last part, as WebDataset groups them."""
    folder, _, last = name.rpartition("/")
    return f"{folder}/{last.split('.', 1)[0]}"

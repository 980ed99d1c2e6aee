"""Which pictures activate the channels of some layers most: one pass, kept on disk as it goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from onnxplain.errors import InputError
from onnxplain.executor import Array
from onnxplain.files import read_npz, write_npz
from onnxplain.graph.layers import Layer
from onnxplain.methods.chain import as_maps
from onnxplain.model import BATCH, Model

Progress = Callable[[int, int], object]
VERSION = 1
"""Of what is kept on disk: raise it when the numbers may change."""
KEEP_EVERY = 256  # pictures between two writes


@dataclass
class Best:
    """Of every channel of a layer the largest activations so far: [K, top], -inf and -1 where none."""

    values: Array
    images: Array
    peaks: Array  # [K, top, 2]

    @classmethod
    def none(cls, channels: int, top: int) -> Best:
        """Return what is known before the first picture."""
        shape = (channels, top)
        nothing = np.full(shape, -np.inf, np.float32)
        return cls(nothing, np.full(shape, -1, np.int64), np.zeros((*shape, 2), np.int64))

    def add(self, maps: Array, images: Sequence[int]) -> None:
        """Take in activations [B, K, h, w] of further images; of equal ones the earlier image stays."""
        flat = maps.reshape(*maps.shape[:2], -1)
        at = flat.argmax(2)
        values = np.take_along_axis(flat, at[:, :, None], 2)[:, :, 0]
        peaks = np.stack(np.unravel_index(at, maps.shape[2:]), 2)
        numbers = np.broadcast_to(np.array(images)[None, :], values.T.shape)
        joined = [
            np.concatenate(pair, 1)
            for pair in (
                (self.values, values.T.astype(np.float32)),
                (self.images, numbers),
                (self.peaks, peaks.transpose(1, 0, 2)),
            )
        ]
        order = np.argsort(-joined[0], axis=1, kind="stable")[:, : self.values.shape[1]]
        self.values, self.images = (np.take_along_axis(a, order, 1) for a in joined[:2])
        self.peaks = np.take_along_axis(joined[2], order[:, :, None], 1)


class Search:
    """A pass over the pictures, as far as it has come."""

    def __init__(
        self, model: Model, layers: Sequence[Layer], paths: Sequence[Path], top: int
    ) -> None:
        """Begin before the first picture. Raises LayerError for a layer without channels."""
        self.model, self.layers, self.paths, self.top = model, layers, paths, top
        self._start()

    def _start(self) -> None:
        self.done = 0
        self.best: dict[str, Best] = {}
        self.skipped: dict[int, str] = {}
        for layer in self.layers:
            blank = as_maps(np.empty((1, *(n or 1 for n in layer.shape))), layer)
            self.best[layer.name] = Best.none(blank.shape[1], self.top)

    def run(self, file: Path | None, progress: Progress) -> None:
        """Look at the pictures that are left, keeping in `file` what was found."""
        if file is not None:
            self._resume(file)
        kept = self.done
        while self.done < len(self.paths):
            progress(self.done, len(self.paths))
            numbers = range(self.done, min(self.done + BATCH, len(self.paths)))
            self._look_at(numbers)
            self.done = numbers.stop
            if file is not None and (
                self.done == len(self.paths) or self.done >= kept + KEEP_EVERY
            ):
                self._keep(file)
                kept = self.done
        progress(self.done, len(self.paths))

    def key(self) -> str:
        """Return what the findings depend on, as a hash."""
        what = {
            "version": VERSION,
            "model": self.model.sha256,
            "layers": [layer.name for layer in self.layers],
            "preprocess": {**asdict(self.model.preprocess), "source": ""},
            "top": self.top,
            "images": [_digest(path) for path in self.paths],
        }
        return hashlib.sha256(json.dumps(what, default=str).encode()).hexdigest()

    def _look_at(self, numbers: range) -> None:
        found = {i: x for i in numbers if (x := self._read(i)) is not None}
        if not found:
            return
        model, feeds = self.model.fit(np.concatenate(list(found.values())))
        names = tuple(self.best)
        left = list(found)
        for rows in model.batches(feeds):
            values = model.values(rows, names)
            count = len(rows[model.graph.source.name])
            for layer in self.layers:
                maps = as_maps(values[layer.name].astype(np.float32, copy=False), layer)
                self.best[layer.name].add(maps, left[:count])
            left = left[count:]

    def _read(self, number: int) -> Array | None:
        """Read a picture as the model is fed, [1, ...]; note why where that fails."""
        source = self.model.graph.source
        try:
            x = self.model.read([self.paths[number]])
        except InputError as error:
            self.skipped[number] = str(error)
            return None
        if x.shape != (1, *source.shape[1:]):
            self.skipped[number] = f"{self.paths[number]}: of shape {list(x.shape)}, not one input"
            return None
        return x

    def _keep(self, file: Path) -> None:
        arrays: dict[str, Array] = {
            "done": np.array(self.done),
            "skipped": np.array(list(self.skipped), np.int64),
            "reasons": np.array(list(self.skipped.values()), np.str_),
        }
        for i, best in enumerate(self.best.values()):
            arrays |= {f"{i}.{name}": array for name, array in vars(best).items()}
        write_npz(file, arrays)

    def _resume(self, file: Path) -> None:
        """Take over what an earlier pass found, unless the file is missing or damaged."""
        try:
            arrays = read_npz(file)
            done = int(arrays["done"])
            names = [str(reason) for reason in arrays["reasons"]]
            skipped = dict(zip(arrays["skipped"].tolist(), names, strict=True))
            best = {}
            for i, (name, blank) in enumerate(self.best.items()):
                found = {k: arrays[f"{i}.{k}"] for k in vars(blank)}
                if any(a.shape != getattr(blank, k).shape for k, a in found.items()):
                    raise ValueError("other shapes")
                best[name] = Best(**found)
        except (OSError, ValueError, KeyError, TypeError):
            return
        if 0 <= done <= len(self.paths) and all(b.images.max() < done for b in best.values()):
            self.done, self.skipped, self.best = done, skipped, best


def _digest(path: Path) -> str:
    """Return the hash of what is in a file; of one that cannot be opened that of nothing."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""

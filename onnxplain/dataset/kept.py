"""What a pass has found so far, and its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from onnxplain.dataset.job import Job, Partial
from onnxplain.dataset.worker import Done, Skipped
from onnxplain.files import read_npz, write_npz

_PARTIAL = "partial."


class Kept:
    """The items from the first to `done`, merged: nothing is counted twice, as the rest is still to come."""

    def __init__(self, file: Path | None) -> None:
        """Start with nothing; `file` is None where nothing is to be kept."""
        self._file = file
        self.done = self.used = self._written = 0
        self.partial: Partial | None = None
        self.skipped: list[Skipped] = []

    @classmethod
    def open(cls, file: Path | None) -> Kept:
        """Return what a file holds; nothing, where it is missing or damaged."""
        kept = cls(file)
        if file is None:
            return kept
        try:
            arrays = read_npz(file)
            done, used = int(arrays.pop("done")), int(arrays.pop("used"))
            numbers, names, reasons = (
                arrays.pop(n).tolist() for n in ("numbers", "names", "reasons")
            )
            skipped = [Skipped(*s) for s in zip(numbers, names, reasons, strict=True)]
        except (OSError, ValueError, KeyError, TypeError):
            return kept
        partial = {name.removeprefix(_PARTIAL): array for name, array in arrays.items()}
        if done == used + len(skipped) and bool(partial) == bool(used):
            kept.done, kept.used, kept.skipped = done, used, skipped
            kept.partial, kept._written = partial or None, done
        return kept

    def add(self, done: Done, job: Job) -> None:
        """Merge the next piece."""
        assert done.numbers.start == self.done, "pieces come in order"
        self.done, self.used = done.numbers.stop, self.used + done.used
        self.skipped += done.skipped
        if self.partial is None:
            self.partial = done.partial
        elif done.partial is not None:
            self.partial = job.merge(self.partial, done.partial)

    def write(self) -> None:
        """Write the file, unless it has all of it; raises OutputError."""
        if self._file is None or self.done == self._written:
            return
        numbers, names, reasons = zip(*self.skipped, strict=True) if self.skipped else ((), (), ())
        facts = {
            "done": np.array(self.done),
            "used": np.array(self.used),
            "numbers": np.array(numbers, np.int64),
            "names": np.array(names, np.str_),
            "reasons": np.array(reasons, np.str_),
        }
        partial = {_PARTIAL + name: array for name, array in (self.partial or {}).items()}
        write_npz(self._file, facts | partial)
        self._written = self.done

"""Whether a file with an explanation still answers what the original answers, bit by bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxplain.errors import ModelError
from onnxplain.executor import run_plainly
from onnxplain.feeds import Feeds
from onnxplain.graph import host
from onnxplain.graph.lift import MIN_OPSET, opset_of
from onnxplain.model import Model
from onnxplain.verify import noise

IMAGES = 2
"""Images of noise to compare on, where the file leaves their number open."""


class Trial:
    """The original's outputs for noise, as any program would get them from onnxruntime."""

    def __init__(self, model: Model) -> None:
        """Run the original."""
        self._model = model
        images = host.images_of(model.file.proto, model.graph.source.name)
        self._count = images if isinstance(images, int) else IMAGES
        self._feeds = _noise(model, self._count)
        original: bytes | str = str(model.path)
        if model.path is None:
            original = host.restore(model.file, lifted=False).SerializeToString()
        self._expected = run_plainly(original, self._feeds)

    def problem(self, explained: bytes, inputs: Sequence[Any]) -> str:
        """Return why an explained file with new `inputs` must not be used, "" where every bit is kept."""
        new = {t.name: np.zeros([self._count, *t.shape[1:]], t.dtype) for t in inputs}
        try:
            found = run_plainly(explained, {**self._feeds, **new})
        except ModelError as error:
            return str(error)
        changed = [name for name, value in self._expected.items() if not _same(value, found[name])]
        return f"output {changed[0]!r} would not keep its bits: {self._reason()}" if changed else ""

    def _reason(self) -> str:
        """Say what is the matter, and the way out."""
        opset, source = opset_of(self._model.file.proto), self._model.graph.source
        if source.dtype == np.float16:
            return (
                "onnxruntime rounds float16 elsewhere when an explanation reads along; export the model in "
                "float32"
            )
        if opset < MIN_OPSET:
            return f"at opset {MIN_OPSET} it runs other kernels than at {opset}; export with a later opset"
        return "beside an explanation it runs other kernels; try another layer"


def _noise(model: Model, count: int) -> Feeds:
    """Return feeds of noise for a number of images."""
    rows = [noise(model, seed) for seed in range(count)]
    return {
        i.name: np.concatenate([row[i.name] for row in rows]) if i.per_image else rows[0][i.name]
        for i in model.graph.inputs
    }


def _same(a: Any, b: Any) -> bool:
    """Whether two outputs, arrays or lists of them, have the same bits."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)

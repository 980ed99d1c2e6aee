"""Exemplars: the pictures of a folder that activate a channel most, to tell what the channel stands for.

One batched pass per set of layers, in memory that does not grow with the number of pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from onnxplain.dataset import Data, Found, Run, Source, open_data
from onnxplain.dataset.items import read_item
from onnxplain.errors import ConfigError, InputError, LayerError
from onnxplain.executor import Array
from onnxplain.graph.layers import Layer
from onnxplain.methods.chain import as_maps
from onnxplain.methods.common import whole
from onnxplain.methods.ranking import Highest
from onnxplain.model import Model
from onnxplain.preprocess import picture


@dataclass(frozen=True)
class Exemplar:
    """A picture that activates a channel.

    Attributes:
        image: its path, or its name in the data.
        number: its place in the data.
        value: the channel's largest activation in it.
        peak: row and column of the layer where that is; among equals the first, row by row.
        box: the peak's receptive field (top, left, bottom, right) in pixels as the model sees the picture,
            end exclusive; None where the input is no picture.
    """

    image: str
    number: int = field(compare=False)
    value: float
    peak: tuple[int, int]
    box: tuple[int, int, int, int] | None


class Exemplars:
    """The pictures that activate the channels of some layers most; made by `exemplars`.

    Attributes:
        used: the number of pictures looked at. skipped: those that could not be used, with the reason.
    """

    def __init__(
        self, model: Model, layers: Sequence[Layer], source: Source, job: Highest, found: Found
    ) -> None:
        """Take what a pass over the pictures found."""
        self._model, self._layers = model, {layer.name: layer for layer in layers}
        self._source, self._best = source, job.best(found.partial)
        self.used = found.used
        self.skipped = tuple((s.name, s.reason) for s in found.skipped)

    def of(self, layer: Layer | str, channel: int) -> tuple[Exemplar, ...]:
        """Return what activates a channel most, the most first, equal ones in the order of the pictures.

        Raises LayerError for a layer or channel that was not looked at.
        """
        name = layer.name if isinstance(layer, Layer) else layer
        best = self._best.get(name)
        if best is None or not 0 <= channel < len(best.values):
            raise LayerError(f"no exemplars of channel {channel} of layer {name!r} were looked for")
        kept = best.items[channel] >= 0
        items, values, peaks = (a[channel][kept] for a in (best.items, best.values, best.peaks))
        boxes = self._boxes(self._layers[name], peaks)
        found = zip(items.tolist(), values.tolist(), peaks.tolist(), boxes, strict=True)
        return tuple(
            Exemplar(self._source.item(number).name, number, value, (r, c), box)
            for number, value, (r, c), box in found
        )

    def crop(self, exemplar: Exemplar) -> Array:
        """Return what the unit at the exemplar's peak sees, uint8 [h, w, 3]; reads the picture again.

        Raises InputError where it is no longer readable, or no picture.
        """
        if exemplar.box is None:
            raise InputError(f"{exemplar.image}: the model's input is no picture: nothing to show")
        x = read_item(self._source.item(exemplar.number), self._model)
        top, left, bottom, right = exemplar.box
        shown: Array = picture(x, self._model.spec, self._model.preprocess)[0]
        return shown[top:bottom, left:right]

    def _boxes(self, layer: Layer, peaks: Array) -> list[tuple[int, int, int, int] | None]:
        fields = self._model.graph.receptive_fields(layer)
        if fields is None or not self._model.spec.is_picture or not len(peaks):
            return [None] * len(peaks)
        return [(t, le, b, r) for t, le, b, r in fields.boxes(peaks).tolist()]


def exemplars(
    model: Model,
    data: Data,
    layers: Sequence[Layer | str],
    top: int = 4,
    run: Run | None = None,
) -> Exemplars:
    """Find the pictures that activate each channel of some layers most, by its largest activation.

    data: a folder of pictures, or what else `onnxplain.dataset.open_data` takes; those that cannot be read
        are skipped and reported.
    top: how many to keep of each channel.

    Raises ConfigError (`top`), InputError (no pictures), LayerError (unknown, or without channels).
    """
    if not whole(top, 1):
        raise ConfigError(f"top = {top!r} must be a whole number, 1 or more")
    chosen = [model.layer(layer) for layer in layers]
    if not chosen:
        raise LayerError("name a layer or more to find exemplars of")
    for layer in chosen:
        as_maps(np.empty((1, *(s or 1 for s in layer.shape))), layer)
    source = open_data(data, model.spec.is_picture)
    job = Highest(tuple(layer.name for layer in chosen), int(top))
    return Exemplars(model, chosen, source, job, (run or Run()).over(source, model, job))

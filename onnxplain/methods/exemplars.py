"""Exemplars: the pictures of a folder that activate a channel most, to tell what the channel stands for.

One batched pass per set of layers, in memory that does not grow with the number of pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from onnxplain.errors import ConfigError, InputError, LayerError
from onnxplain.executor import Array
from onnxplain.graph.layers import Layer
from onnxplain.methods.common import whole
from onnxplain.methods.ranking import Best, Progress, Search
from onnxplain.model import Model
from onnxplain.preprocess import picture

_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")
_ARRAYS = (".npy", ".npz", ".pb")


@dataclass(frozen=True)
class Exemplar:
    """A picture that activates a channel.

    Attributes:
        image: its path.
        value: the channel's largest activation in it.
        peak: row and column of the layer where that is; among equals the first, row by row.
        box: the peak's receptive field (top, left, bottom, right) in pixels as the model sees the picture,
            end exclusive; None where the input is no picture.
    """

    image: str
    value: float
    peak: tuple[int, int]
    box: tuple[int, int, int, int] | None


class Exemplars:
    """The pictures that activate the channels of some layers most; made by `exemplars`.

    Attributes:
        images: the pictures looked at. skipped: those that could not be used, with the reason.
    """

    def __init__(
        self,
        model: Model,
        layers: Sequence[Layer],
        images: Sequence[Path],
        best: dict[str, Best],
        skipped: dict[int, str],
    ) -> None:
        """Take what a pass over the pictures found."""
        self._model, self._layers = model, {layer.name: layer for layer in layers}
        self._paths, self._best = images, best
        self.images = tuple(str(p) for i, p in enumerate(images) if i not in skipped)
        self.skipped = tuple((str(images[i]), reason) for i, reason in skipped.items())

    def of(self, layer: Layer | str, channel: int) -> tuple[Exemplar, ...]:
        """Return what activates a channel most, the most first, equal ones in the order of the pictures.

        Raises LayerError for a layer or channel that was not looked at.
        """
        name = layer.name if isinstance(layer, Layer) else layer
        best = self._best.get(name)
        if best is None or not 0 <= channel < len(best.values):
            raise LayerError(f"no exemplars of channel {channel} of layer {name!r} were looked for")
        found = [j for j, image in enumerate(best.images[channel]) if image >= 0]
        peaks = best.peaks[channel, found]
        boxes = self._boxes(self._layers[name], peaks)
        return tuple(
            Exemplar(
                str(self._paths[best.images[channel, j]]),
                float(best.values[channel, j]),
                (r, c),
                box,
            )
            for j, (r, c), box in zip(found, peaks.tolist(), boxes, strict=True)
        )

    def crop(self, exemplar: Exemplar) -> Array:
        """Return what the unit at the exemplar's peak sees, uint8 [h, w, 3]; reads the picture again.

        Raises InputError where it is no longer readable, or no picture.
        """
        if exemplar.box is None:
            raise InputError(f"{exemplar.image}: the model's input is no picture: nothing to show")
        x = self._model.read([exemplar.image])[:1]
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
    images: str | Path | Sequence[str | Path],
    layers: Sequence[Layer | str],
    top: int = 4,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> Exemplars:
    """Find the pictures that activate each channel of some layers most, by its largest activation.

    images: a folder, of which the picture files (arrays, for a model that takes no pictures) are taken in
        the order of their names, not of folders in it; or paths. Those that cannot be read are skipped and
        reported.
    top: how many to keep of each channel.
    cache: a folder for the findings, by what they depend on: model, layers, pre-processing, what is in the
        pictures. An interrupted pass goes on from there; a damaged file is as good as none.
    progress: called with how many pictures are done, and how many there are.

    Raises ConfigError (`top`), InputError (no pictures), LayerError (unknown, or without channels).
    """
    if not whole(top, 1):
        raise ConfigError(f"top = {top!r} must be a whole number, 1 or more")
    paths = _files(images, _PICTURES if model.spec.is_picture else _ARRAYS)
    chosen = [model.layer(layer) for layer in layers]
    if not chosen:
        raise LayerError("name a layer or more to find exemplars of")
    search = Search(model, chosen, paths, top)
    file = None if cache is None else Path(cache) / f"exemplars-{search.key()}.npz"
    search.run(file, progress or (lambda done, total: None))
    return Exemplars(model, chosen, paths, search.best, search.skipped)


def _files(images: str | Path | Sequence[str | Path], suffixes: Sequence[str]) -> list[Path]:
    if not isinstance(images, str | Path):
        paths = [Path(p) for p in images]
    elif Path(images).is_dir():
        paths = sorted(p for p in Path(images).iterdir() if p.suffix.lower() in suffixes)
    else:
        raise InputError(f"{images}: no such folder of pictures")
    if not paths:
        raise InputError(f"{images}: no files ({', '.join(suffixes)}) to take exemplars from")
    return paths

"""The canonical graph of a model with the facts read off it: image input, logit, layers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from math import prod

import numpy as np
import onnx_graphsurgeon as gs

from onnxplain.errors import ModelError
from onnxplain.graph.canonical import InputShapes, canonicalize
from onnxplain.graph.fold import constant_value
from onnxplain.graph.layers import (
    Layer,
    choose_default,
    choose_features,
    choose_levels,
    find_layers,
)
from onnxplain.graph.logit import Logit, find_logits
from onnxplain.graph.receptive import ReceptiveFields
from onnxplain.graph.shapes import at_count

_IMAGE_CHANNELS = (1, 3, 4)
DEFAULT_SIZE = 224
"""Height and width taken for an input that leaves them open, when nothing else says."""


@dataclass(frozen=True)
class Input:
    """One model input: `shape` with "N" for images, `axes` "NCHW"/"NHWC" for a picture, else None.

    `open_size` says that the file leaves height and width open. An input without "N" is a setting that all
    images share (a temperature, a threshold).
    """

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int | str, ...]
    axes: str | None
    open_size: bool

    @property
    def per_image(self) -> bool:
        """Whether the input has a row for each image."""
        return self.shape[:1] == ("N",)


@dataclass(frozen=True)
class Graph:
    """A canonical graph and what was found in it.

    `pinned` is None where the number of images is free, else the reason why it is not (then images run
    one by one, `images` at a time).
    """

    nodes: gs.Graph
    inputs: tuple[Input, ...]
    source: Input
    logits: tuple[Logit, ...]
    layers: tuple[Layer, ...]
    default_layer: Layer | None
    why_default_layer: str
    pinned: str | None
    _fields: dict[str, ReceptiveFields] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def levels(self) -> tuple[Layer, ...]:
        """The layers to decompose a decision over by default, from top to bottom."""
        return choose_levels(self.nodes, self.layers, self.logit.tensor)

    @cached_property
    def features(self) -> tuple[Layer, ...]:
        """The layers that hold features, one for each depth, from input to output."""
        return choose_features(self.nodes, self.layers, self.logit.tensor)

    def receptive_fields(self, layer: Layer) -> ReceptiveFields | None:
        """Return what the positions of a layer see of the picture; None where the input is none."""
        if self.source.axes is None:
            return None
        if layer.name not in self._fields:
            found = ReceptiveFields(self.nodes, self.source.name, self.source.axes, layer)
            self._fields[layer.name] = found
        return self._fields[layer.name]

    @cached_property
    def bytes_per_image(self) -> int:
        """Bytes of all activations of one image together: about the most that explaining it takes."""
        tensors = [y for node in self.nodes.nodes for y in node.outputs]
        return sum(
            prod(at_count(s, 1) for s in t.shape) * np.dtype(t.dtype).itemsize
            for t in tensors
            if isinstance(t.dtype, np.dtype | type) and t.shape and all(map(_is_size, t.shape))
        )

    @cached_property
    def attends(self) -> bool:
        """Whether activations are multiplied as matrices, as attention does."""
        products = [node for node in self.nodes.nodes if node.op == "MatMul"]
        return any(all(constant_value(x) is None for x in node.inputs) for node in products)

    @property
    def logit(self) -> Logit:
        """What is explained by default."""
        return self.logits[0]

    def layer(self, name: str) -> Layer | None:
        """Return the layer of this name, if there is one."""
        return next((layer for layer in self.layers if layer.name == name), None)


def _is_size(size: object) -> bool:
    """Whether a size is a number or counts images; others stay open where control flow decides."""
    return isinstance(size, int) or (isinstance(size, str) and bool(re.fullmatch(r"\d*N", size)))


def build(imported: gs.Graph, size: tuple[int, int] | None = None) -> Graph:
    """Canonicalise an imported graph and read the facts off it.

    `size` (height, width) fills a size that the file leaves open. Raises ModelError or UnsupportedOpError.
    """
    if not imported.inputs:
        raise ModelError("the model has no input: nothing to explain with respect to")
    free = any(t.shape and not isinstance(t.shape[0], int) for t in imported.inputs)
    inputs = tuple(_describe(t, size, free) for t in imported.inputs)
    source = choose_source(inputs)
    if not source.per_image:
        raise ModelError(f"input {source.name!r} has no axis of images: export the model with one")
    shapes: InputShapes = {i.name: i.shape for i in inputs}
    nodes, pinned = canonicalize(imported, shapes)
    logits = _with_rows(find_logits(nodes), nodes, (1, "N") if pinned else ("N",))
    logit = logits[0]
    layers = find_layers(nodes, source.name, logit.tensor, source.axes)
    default, why = choose_default(nodes, layers, logit.tensor)
    return Graph(nodes, inputs, source, logits, layers, default, why, pinned)


def _with_rows(
    logits: tuple[Logit, ...], nodes: gs.Graph, rows: tuple[int | str, ...]
) -> tuple[Logit, ...]:
    """Keep the outputs whose first axis is one of `rows`; raises ModelError where none is."""
    tensors = nodes.tensors()
    shapes = [tensors[logit.tensor].shape for logit in logits]
    kept = [x for x, shape in zip(logits, shapes, strict=True) if not shape or shape[0] in rows]
    if not kept:
        raise ModelError(
            f"output {logits[0].output!r} of shape {list(shapes[0] or ())} has no row for each image: "
            "export the model with the images on its first axis"
        )
    return tuple(kept)


def choose_source(inputs: tuple[Input, ...]) -> Input:
    """Return the input to explain by default: the first picture, else the first float input."""
    pictures = [i for i in inputs if i.axes is not None]
    floats = [i for i in inputs if i.dtype.kind == "f"]
    return (pictures + floats + list(inputs))[0]


def _describe(tensor: gs.Tensor, size: tuple[int, int] | None, free: bool) -> Input:
    """Describe an input; `free` says that some input leaves the number of images open."""
    if tensor.shape is None or tensor.dtype is None:
        raise ModelError(f"input {tensor.name!r} declares no shape: export the model with shapes")
    if isinstance(tensor.dtype, int) or np.dtype(tensor.dtype).kind not in "fiub":
        raise ModelError(f"input {tensor.name!r} holds strings or numbers that NumPy does not have")
    declared = [s if isinstance(s, int) and s > 0 else None for s in tensor.shape]
    if not declared or (declared[0] is not None and (free or len(declared) < 2)):
        return Input(tensor.name, np.dtype(tensor.dtype), _whole(tensor, declared), None, False)
    axes = _picture_axes(tensor, declared)
    sizes = list(declared[1:])
    open_size = any(s is None for s in sizes)
    if open_size and axes is not None:
        fill = dict(zip("HW", size or (DEFAULT_SIZE, DEFAULT_SIZE), strict=True)) | {"C": 3}
        sizes = [s or fill[a] for s, a in zip(sizes, axes[1:], strict=True)]
    _whole(tensor, sizes)
    shape: tuple[int | str, ...] = ("N", *(int(s) for s in sizes if s))
    return Input(tensor.name, np.dtype(tensor.dtype), shape, axes, open_size and axes is not None)


def _whole(tensor: gs.Tensor, sizes: list[int | None]) -> tuple[int, ...]:
    if any(s is None for s in sizes):
        raise ModelError(
            f"input {tensor.name!r} of shape {list(tensor.shape)} leaves sizes open that are not those of "
            "a picture: export it with fixed sizes"
        )
    return tuple(int(s) for s in sizes if s)


def _picture_axes(tensor: gs.Tensor, sizes: list[int | None]) -> str | None:
    """Return "NCHW" or "NHWC" for an input that can be a picture, else None.

    By its 1, 3 or 4 channels on one side; where that does not tell, by who reads it: a convolution, or the
    Transpose to channels first that an NHWC file starts with.
    """
    if len(sizes) != 4:
        return None
    first, last = sizes[1] in _IMAGE_CHANNELS, sizes[3] in _IMAGE_CHANNELS
    if first != last:
        return "NCHW" if first else "NHWC"
    readers = [(node.op, list(node.attrs.get("perm", []))) for node in tensor.outputs]
    if ("Transpose", [0, 3, 1, 2]) in readers:
        return "NHWC"
    convolved = any(op == "Conv" for op, _ in readers)
    return "NCHW" if first or convolved or sizes[1] is None or sizes[3] is None else None

"""Layers a user can choose, which of them are cuts, and the one to explain by default.

A layer is a *cut* when every path from the input to the logit passes it: then the rest of the network is
a function of that layer alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_graphsurgeon as gs

from onnxplain.errors import LayerError
from onnxplain.graph.axes import MOST_OTHERS, Axes, Grid, patches_that_count, trace_roles
from onnxplain.graph.paths import differentiable_edges, find_path

_NOT_FEATURES = {
    "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "Transpose",
    "Pad", "Resize", "Cast", "Slice", "Split", "Reshape", "Flatten", "Expand", "Tile", "Dropout",
    "Identity", "Gather", "Squeeze", "Unsqueeze", "ReduceMean", "ReduceMax", "ReduceSum",
}  # fmt: skip
_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


@dataclass(frozen=True)
class Layer:
    """A named activation.

    `shape` is without the image axis; `axes` gives each axis its role ("NCHW", "NHWC", "NTC") or is None
    where the tensor is not a feature map; `cut` says whether every path from input to logit passes it;
    `grid` how the tokens of a transformer ("T") lie in the picture, and `patches_count` whether those in
    the picture have a path to the logit, not class tokens alone.
    """

    name: str
    op: str
    shape: tuple[int | None, ...]
    cut: bool
    axes: Axes | None = None
    grid: Grid | None = None
    patches_count: bool = True

    @property
    def spatial(self) -> bool:
        """Whether the layer is a two-dimensional feature map larger than one position."""
        return self.axes is not None and len(self.axes) == 4 and (self.size or (1, 1)) != (1, 1)

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of a feature map, or of the grid of tokens."""
        if self.grid is not None:
            return (self.grid.height, self.grid.width)
        if self.axes is None or len(self.axes) != 4:
            return None
        h, w = (self.shape[self.axes.index(a) - 1] for a in "HW")
        return (h, w) if h is not None and w is not None else None

    @property
    def channel_axis(self) -> int | None:
        """The axis of the channels in a batch [N, *shape]; the elements of a vector are channels too."""
        if self.axes is not None:
            return self.axes.index("C")
        return 1 if len(self.shape) == 1 else None

    @property
    def channels(self) -> int | None:
        """Number of channels of a feature map, of tokens or of a vector."""
        return None if self.channel_axis is None else self.shape[self.channel_axis - 1]

    @property
    def has_map(self) -> bool:
        """Whether its positions lie in the picture, so that they can be drawn: a feature map or tokens."""
        return self.spatial or self.grid is not None

    def with_grid(self, size: tuple[int, int]) -> Layer:
        """Return this layer of tokens, [T, C], with its patches declared to be `size` (height, width).

        Other tokens come before the patches, unless the graph says otherwise. Raises LayerError.
        """
        if not (len(size) == 2 and all(isinstance(s, int | np.integer) for s in size)):
            raise LayerError(f"grid {size!r} is not (height, width)")
        h, w = (int(s) for s in size)
        if (h, w) == self.size:
            return self
        axes = self.axes or "NTC"
        if len(self.shape) != 2 or None in self.shape or self.spatial:
            raise LayerError(
                f"layer {self.name!r} of shape {self.shape} has no tokens to put on a grid"
            )
        axes = "NCT" if axes[1] == "C" else "NTC"
        tokens = self.shape[axes.index("T") - 1] or 0
        others = tokens - h * w
        if not (h > 0 and w > 0 and 0 <= others <= MOST_OTHERS):
            raise LayerError(
                f"layer {self.name!r} has {tokens} tokens, which are not {h}x{w} patches and up to "
                f"{MOST_OTHERS} others"
            )
        return replace(self, axes=axes, grid=Grid(h, w, before=others))


def find_layers(graph: gs.Graph, source: str, logit: str, axes: Axes | None) -> tuple[Layer, ...]:
    """Return the layers between the input `source` (whose axes are `axes`) and the logit, in order."""
    path = find_path(graph.nodes, {source}, {logit})
    roles = trace_roles(graph.nodes, source, axes)
    counting = patches_that_count(graph.nodes, roles, logit)
    cuts = find_cuts(graph.nodes, source, logit, path)
    layers = []
    for node in graph.nodes:
        for y in node.outputs:
            if y.name not in path or y.name == logit or not y.shape:
                continue
            if y.shape[0] != "N" and any(isinstance(s, str) for s in y.shape):
                continue  # it has no row per image: images lie elsewhere, or are merged with windows
            if y.dtype is not None and np.dtype(y.dtype).kind in "iub":
                continue  # a quantised tensor; its DequantizeLinear is the layer
            sizes = tuple(s if isinstance(s, int) else None for s in y.shape[1:])
            layer = Layer(y.name, node.op, sizes, y.name in cuts)
            if (role := roles.get(y.name)) is not None:
                counts = role.grid is None or y.name in counting
                layer = replace(layer, axes=role.axes, grid=role.grid, patches_count=counts)
            layers.append(layer)
    return tuple(layers)


def find_cuts(nodes: Sequence[gs.Node], source: str, logit: str, path: set[str]) -> set[str]:
    """Return the tensors that every path from `source` to `logit` passes; `path` are all that any passes.

    Every tensor of `path` lies between the two and nodes are sorted, so a tensor is passed by all unless an
    edge leads from one before it to one after it.
    """
    between = path - {source}
    made = (y.name for node in nodes for y in node.outputs if y.name in between)
    place = {name: i for i, name in enumerate([source, *made])}
    reach = [0] * len(place)  # of each tensor, the place of the last one made from it by one node
    for node in nodes:
        for x, y in differentiable_edges(node):
            if x.name in place and y.name in place:
                reach[place[x.name]] = max(reach[place[x.name]], place[y.name])
    cuts, last = set[str](), 0
    for name, i in place.items():
        if last <= i:
            cuts.add(name)
        last = max(last, reach[i])
    return cuts - {source, logit}


def choose_default(
    graph: gs.Graph, layers: Sequence[Layer], logit: str
) -> tuple[Layer | None, str]:
    """Return the layer to explain by default and the reason in words.

    The last cut with a map that holds features: not the result of pooling or reordering, not class scores
    already (a weighted op must follow, else each class reads a single channel), and not tokens of which the
    logit reads the class token alone.
    """
    passed: list[str] = []
    for layer, unfit in reversed(_feature_cuts(graph, layers, logit)):
        if unfit is not None:
            passed.append(f"{layer.name!r} {unfit}")
            continue
        h, w = layer.size or (0, 0)
        what = "feature map" if layer.spatial else "patches"
        reason = (
            f"the last {what} ({layer.channels} channels of {h} x {w}) that every path from the "
            "input to the logit passes"
        )
        return layer, reason + (f"; {passed[-1]}" if passed else "")
    if any(layer.spatial for layer in layers):
        return None, "no feature map lies on every path from the input to the logit: choose a layer"
    return None, "this model has no feature maps: class activation maps do not apply, gradients do"


def choose_levels(graph: gs.Graph, layers: Sequence[Layer], logit: str) -> tuple[Layer, ...]:
    """Return the layers to decompose a decision over by default, from top to bottom.

    The last cut of each spatial resolution that holds features, as `choose_default` means it. Sizes within
    a quarter of each other, as convolutions without padding make them, are one resolution.
    """
    found: list[Layer] = []
    for layer, unfit in _feature_cuts(graph, layers, logit):
        if unfit is not None or not layer.spatial:
            continue
        if found and 0.8 < _scale(layer) / _scale(found[-1]) < 1.25:
            found.pop()
        found.append(layer)
    return tuple(reversed(found))


def choose_features(graph: gs.Graph, layers: Sequence[Layer], logit: str) -> tuple[Layer, ...]:
    """Return the layers that hold features at each depth, from input to output: maps, tokens and vectors.

    Of the cuts between one weighted op and the next the last that holds features, as `choose_default`
    means it: behind the activation, before the pooling.
    """
    depth = _weighted_ops_before(graph.nodes)
    found: dict[int, Layer] = {}
    for layer, unfit in _feature_cuts(graph, layers, logit, vectors=True):
        if unfit is None:
            found[depth[layer.name]] = layer
    return tuple(found.values())


def _weighted_ops_before(nodes: Sequence[gs.Node]) -> dict[str, int]:
    """Return the number of weighted ops on the longest way to each tensor."""
    depth: dict[str, int] = {}
    for node in nodes:
        before = max((depth.get(x.name, 0) for x in node.inputs), default=0)
        depth |= {y.name: before + (node.op in _WEIGHTED) for y in node.outputs}
    return depth


def _scale(layer: Layer) -> float:
    h, w = layer.size or (1, 1)
    return float(np.sqrt(h * w))


def _feature_cuts(
    graph: gs.Graph, layers: Sequence[Layer], logit: str, vectors: bool = False
) -> list[tuple[Layer, str | None]]:
    """Return the cuts with a map in order, each with the reason why it holds no features, if so.

    `vectors`: also the cuts that hold a vector per image.
    """
    producers = {y.name: n for n in graph.nodes for y in n.outputs}
    before_weights = _tensors_before_weights(graph.nodes, logit)
    found: list[tuple[Layer, str | None]] = []
    for layer in layers:
        if not (layer.cut and (layer.has_map or (vectors and len(layer.shape) == 1))):
            continue
        made_by = _maker(producers, layer.name)
        if made_by in _NOT_FEATURES:
            found.append((layer, f"only pools or reorders ({made_by})"))
        elif made_by in ("QuantizeLinear", "DequantizeLinear"):
            found.append((layer, "is the input, quantised"))
        elif layer.name not in before_weights:
            found.append((layer, "holds the class scores already"))
        elif not layer.patches_count:
            found.append((layer, "is read at the class token alone"))
        else:
            found.append((layer, None))
    return found


def _maker(producers: Mapping[str, gs.Node], name: str) -> str:
    """Return the op that made a tensor, looking through a quantise/dequantise pair."""
    node = producers[name]
    while node.op in ("QuantizeLinear", "DequantizeLinear") and node.inputs[0].name in producers:
        node = producers[node.inputs[0].name]
    return str(node.op)


def _tensors_before_weights(nodes: Sequence[gs.Node], logit: str) -> set[str]:
    """Return the tensors from which a path to the logit passes a weighted op."""
    reaches, weighted = {logit}, set[str]()
    for node in reversed(nodes):
        for x, y in differentiable_edges(node):
            if y.name in reaches:
                reaches.add(x.name)
                if node.op in _WEIGHTED or y.name in weighted:
                    weighted.add(x.name)
    return weighted

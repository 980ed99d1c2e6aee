"""Follow the images through a graph: on which axis of every tensor their number shows.

Shape inference of each node at two image counts shows which axis grows. In row-major order the images
sit behind a fixed number of elements, and that number tells where a Reshape takes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter, dtype_to_onnx

from onnxplain.errors import ModelError
from onnxplain.graph import shapes
from onnxplain.graph.emit import Emitter
from onnxplain.graph.fold import Array
from onnxplain.graph.infer import SMALL, fully_known, infer_node
from onnxplain.graph.mixing import combined_axes

FAR = 127
"""The second image count is 127 times the exported one: a prime that no layer's size equals."""

Shape = tuple[int, ...]


class Pinned(Exception):
    """The number of images cannot be freed (a finding, not a failure); names the node and the reason."""

    def __init__(self, node: gs.Node, reason: str) -> None:
        """Say which node pins the number of images, and why."""
        super().__init__(f"{node.op} (node {node.name!r}) {reason}")


@dataclass(frozen=True)
class Images:
    """Where the images sit in a tensor: the size of `axis` is outer x images x inner."""

    axis: int
    outer: int = 1


Patch = Callable[["Walk", gs.Node], Images | None]


class Walk:
    """What is known of the tensors so far: sizes and small values at two counts, place of the images."""

    def __init__(
        self,
        graph: gs.Graph,
        inputs: Mapping[str, tuple[int | str, ...]],
        patches: Mapping[str, Patch],
    ) -> None:
        """Start from the graph's inputs and constants; `patches` may change a node before its turn."""
        self.nodes: list[gs.Node] = []
        self.images: dict[str, Images] = {}
        self.sizes: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
        self.values: dict[str, shapes.Pair] = {}
        self._opset, self._patches = graph.opset, patches
        exported = exported_count(graph, inputs)
        self.static = exported is not None
        self.base = exported or 1
        for tensor in graph.tensors().values():
            if isinstance(tensor, gs.Constant):
                self.note(tensor)
        for tensor in graph.inputs:
            wanted = inputs[tensor.name]
            for sizes, n in zip(self.sizes, (self.base, self.base * FAR), strict=True):
                at_n = tuple(shapes.at_count(s, n) for s in wanted)
                sizes[tensor.name] = (dtype_to_onnx(tensor.dtype), at_n)
            if "N" in wanted:
                self.images[tensor.name] = Images(wanted.index("N"))

    def size(self, tensor: gs.Tensor) -> Shape:
        """Return the sizes of a tensor at the exported count."""
        return tuple(self.sizes[0][tensor.name][1])

    def value(self, tensor: gs.Tensor) -> shapes.Pair | None:
        """Return the value of a constant or of shape arithmetic, at the two image counts."""
        if isinstance(tensor, gs.Constant):
            return np.asarray(tensor.values), np.asarray(tensor.values)
        return self.values.get(tensor.name)

    def constant(self, tensor: gs.Tensor) -> Array | None:
        """Return the value of a tensor that is the same for every number of images."""
        pair = self.value(tensor)
        return pair[0] if pair is not None and np.array_equal(*pair) else None

    def note(self, tensor: gs.Constant) -> gs.Constant:
        """Enter a constant, and return it."""
        for sizes in self.sizes:
            sizes[tensor.name] = (dtype_to_onnx(tensor.dtype), tuple(tensor.shape))
        if prod(tensor.shape) <= SMALL:
            value = np.asarray(tensor.values)
            self.values[tensor.name] = (value, value)
        return tensor

    def visit(self, node: gs.Node) -> None:
        """Patch the node if it pins the images, append it to `nodes`, and note its outputs."""
        condition = self.constant(node.inputs[0]) if node.op == "If" else None
        if condition is not None:
            for inner in branch(node, bool(condition.all())):
                self._visit_new(inner)
            return
        known = None
        if self._followed(node):
            for i, x in enumerate(node.inputs):
                where = self.images.get(x.name)
                if where and where.axis in combined_axes(self, node, i):
                    raise Pinned(node, "combines the images of a batch")
            known = self._patches[node.op](self, node) if node.op in self._patches else None
            for which, sizes in enumerate(self.sizes):
                sizes.update(self.infer(node, which))
        self.nodes.append(node)
        for y in node.outputs:
            if y.name in self.sizes[0] and y.name in self.sizes[1]:
                place = known or self._locate(node, y)
                self.images |= {y.name: place} if place else {}
            elif self.static and not y.is_empty():
                raise Pinned(node, "has no shape inference: images cannot be followed through it")
        self._evaluate(node)

    def insert(self, name: str, write: Callable[[Emitter], gs.Tensor]) -> gs.Tensor:
        """Write nodes before the one being visited, follow the images through them, return the result."""
        op = Emitter(name)
        result = write(op)
        for new in op.nodes:
            self._visit_new(new)
        return result

    def _visit_new(self, node: gs.Node) -> None:
        for x in node.inputs:
            if isinstance(x, gs.Constant):
                self.note(x)
        self.visit(node)

    def infer(self, node: gs.Node, which: int) -> dict[str, tuple[int, Shape]]:
        """Return element type and sizes of the outputs that are fully known, at one of the two counts.

        Raises Pinned on a contradiction.
        """
        if node.op == "Constant" and "value" in node.attrs:  # may hold weights: do not copy them
            value = node.attrs["value"]
            return {node.outputs[0].name: (dtype_to_onnx(value.dtype), tuple(value.shape))}
        proto, values = OnnxExporter.export_node(node), shapes.steering(node, self.values, which)
        try:
            return fully_known(infer_node(proto, self._opset, self.sizes[which], values))
        except ModelError as error:
            raise Pinned(node, f"fits only the exported number of images: {error}") from error

    def _followed(self, node: gs.Node) -> bool:
        known = all(x.is_empty() or x.name in self.sizes[0] for x in node.inputs)
        return known and node.domain in (None, "", "ai.onnx") and not any(node.subgraphs())

    def _evaluate(self, node: gs.Node) -> None:
        """Note the outputs' values where all inputs' are known: shape arithmetic."""
        if not self._followed(node):
            return
        pair = shapes.evaluate_pair(node, list(self.sizes), self.values, self._opset)
        for y, a, b in zip(node.outputs, *pair or ((), ()), strict=False):
            if a.size <= SMALL:
                self.values[y.name] = (a, b)

    def _locate(self, node: gs.Node, y: gs.Tensor) -> Images | None:
        """Return where the images are in an output: on the axis that grows with their number."""
        near, far = (sizes[y.name][1] for sizes in self.sizes)
        read = node.inputs[:1] if node.op == "CastLike" else node.inputs  # the rest lends its type
        carriers = [x for x in read if x.name in self.images]
        grown = [i for i, (a, b) in enumerate(zip(near, far, strict=False)) if a != b]
        if len(near) != len(far) or len(grown) > 1:
            raise Pinned(node, "spreads the images over several axes")
        if not grown:
            if carriers and node.op not in ("Shape", "Size"):
                raise Pinned(node, "drops the axis of images")
            return None
        (axis,) = grown
        if far[axis] != FAR * near[axis]:
            raise Pinned(node, "does not grow in proportion to the number of images")
        if node.op in ("Reshape", "Flatten") and carriers:
            outer, rest = divmod(self.before_images(carriers[0]), prod(near[:axis]) or 1)
            if rest or 0 in near:
                raise Pinned(node, "splits the axis of images")
            return Images(axis, outer)
        outers = {self.images[x.name].outer for x in carriers} or {1}
        widths = {self.size(x)[self.images[x.name].axis] for x in carriers} or {near[axis]}
        if len(outers) > 1 or widths != {near[axis]}:
            raise Pinned(node, "mixes different orders of images")
        return Images(axis, outers.pop())

    def before_images(self, tensor: gs.Tensor) -> int:
        """Return how many elements lie before the images in row-major order: what a Reshape keeps."""
        images = self.images[tensor.name]
        return prod(self.size(tensor)[: images.axis]) * images.outer


def exported_count(graph: gs.Graph, inputs: Mapping[str, tuple[int | str, ...]]) -> int | None:
    """Return the number of images that the file declares, None where it leaves the number open."""
    declared = [
        size
        for x in graph.inputs
        for size, wanted in zip(x.shape or (), inputs[x.name], strict=False)
        if wanted == "N" and isinstance(size, int)
    ]
    return max(declared, default=None)


def branch(node: gs.Node, condition: bool) -> list[gs.Node]:
    """Return the nodes of the branch that an If takes; they produce the If's outputs from now on."""
    taken = node.attrs["then_branch" if condition else "else_branch"]
    if len(taken.outputs) != len(node.outputs):
        raise ModelError(f"If (node {node.name!r}): its branch has {len(taken.outputs)} outputs")
    pairs = list(zip(taken.outputs, node.outputs, strict=True))
    node.outputs.clear()
    joints = [gs.Node("Identity", f"{node.name}.{y.name}", {}, [x], [y]) for x, y in pairs]
    return [*taken.nodes, *joints]

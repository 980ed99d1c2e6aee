"""Write a backward pass beside a graph and cut the pair at its residuals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from onnxplain.backward.seeds import pick, plant
from onnxplain.backward.table import RuleTable
from onnxplain.backward.walk import walk
from onnxplain.errors import ModelError
from onnxplain.graph.canonical import rewrite
from onnxplain.graph.emit import Emitter
from onnxplain.graph.export import Part, export
from onnxplain.graph.fold import fixed_nodes
from onnxplain.graph.nested import nest
from onnxplain.graph.paths import check_cut, find_path, needed, read_beside, reads
from onnxplain.graph.shapes import at_count

Formula = Callable[[Any, Any, Any], Mapping[str, Any]]
"""(op, signal, the value it belongs to) -> results by name, computed by NUMPY or written by an Emitter."""

REFERENCE = "@reference"
"""Suffix of an input that carries a tensor's value at the reference input."""


class Pair:
    """The forward graph of `outputs`, and its backward pass with respect to `wrt` under `rules`.

    Every method returns a standard ONNX model:

    * `forward`: model inputs -> outputs, wrt, residuals (plus reference values as inputs, if rules need them)
    * `backward`: residuals and seeds -> gradients, also with a pass for each of several seeds of an image
    * `fused`: model inputs and seeds -> outputs, wrt and gradients
    * `tail`: wrt -> outputs, the rest of the network alone (wrt must be a cut)
    * `segment`: wrt -> outputs, residuals: `forward` of that rest (wrt must be a cut)
    * `reference`: wrt -> the values that rules read at the reference input

    A seed is called `seed(output)` and a gradient `gradient(tensor)`. With `one_each` there is one seed for
    each image.
    """

    # `broadcasts`: residuals of one image serve many seeds. `pinned`: the graph takes one image only.
    # `each`: one seed for each image.
    # `one_reference`: values at the reference are the same for all images.

    def __init__(
        self,
        graph: gs.Graph,
        outputs: Sequence[str],
        wrt: Sequence[str],
        rules: RuleTable,
        one_each: bool = False,
    ) -> None:
        """Run the reverse walk on a copy of `graph` (canonical, sorted).

        Raises UnsupportedOpError where an op on the path has no rule, ModelError where no output depends
        on `wrt`.
        """
        self._graph = graph.copy()
        nest(self._graph, wrt)
        if rules.rewrites:
            rewrite(self._graph, rules.rewrites, rules.name)
        self._tensors = self._graph.tensors()
        self.outputs, self.wrt, self.rules = tuple(outputs), tuple(wrt), rules.name
        self.table, self.each = rules, one_each
        op, seeds = Emitter("vjp"), {name: self._seed(name) for name in outputs}
        axes = self._image_axes()
        self.broadcasts, self.pinned = axes == {"N"} and not one_each, not axes
        self.one_reference = axes == {"N"} and not self.beside
        self._references = _References(self._tensors, of_one=self.one_reference)
        signals, self.notes = walk(self._graph.nodes, seeds, wrt, rules, op, self._references)
        if not signals:
            raise ModelError(f"{', '.join(outputs)} does not depend on {', '.join(wrt)}")
        self.gradients = tuple(signals)
        self._gradients = [
            _named(op, f"gradient({k})", v, self._tensors[k], self._per_seed(self._tensors[k]))
            for k, v in signals.items()
        ]
        self._seeds = list(seeds.values())
        self._split(op.nodes)

    @property
    def steps(self) -> int:
        """The number of nodes that every seed passes on its way back."""
        return len(self._per_seed_nodes)

    @property
    def references(self) -> tuple[str, ...]:
        """Names of the tensors whose value at the reference input the rules read."""
        return tuple(self._references.used)

    @property
    def picks(self) -> bool:
        """Whether the seeds may be given as elements of the single output, whose sizes are known."""
        sizes = list((self.seed_sizes or {}).values())
        return self.each and len(sizes) == 1 and prod(sizes[0]) > 0

    @property
    def seed_sizes(self) -> dict[str, tuple[int, ...]] | None:
        """Sizes of one image's seed, by output; None where they are not known."""
        shapes = {name: self._tensors[name].shape for name in self.outputs}
        if not all(
            shape and all(isinstance(s, int) for s in shape[1:]) for shape in shapes.values()
        ):
            return None
        return {name: tuple(shape[1:]) for name, shape in shapes.items()}

    @property
    def residuals(self) -> tuple[str, ...]:
        """Names of the tensors that the backward graph takes from the forward graph."""
        return tuple(t.name for t in self._residuals)

    def forward(self) -> Part:
        """Model inputs -> outputs, wrt and residuals (those that are not model inputs themselves)."""
        inputs = {t.name for t in self._graph.inputs}
        results = _unique([*self._named(self.outputs + self.wrt), *self._residuals])
        results = [t for t in results if t.name not in inputs]
        return self._export([*self._graph.nodes, *self._once], self._sources(), results)

    @property
    def entering(self) -> int:
        """Elements of one image's residuals that pass something first, coming from another graph."""
        entered = self._entered(Emitter("enter"))
        return sum(prod(t.shape[1:]) for name, t in entered.items() if t.name != name)

    def backward(self, copies: int = 1) -> Part:
        """Residuals and seeds -> gradients; `copies` > 1: that many seeds of each image, a pass for each."""
        op, after = Emitter("enter"), Emitter("leave")
        given, starts = self._entered(op), list(self._residuals)
        rows: dict[str, list[gs.Tensor]] = {}
        for seed in self._seeds:
            starts.append(seed)
            rows[seed.name] = [seed]
            if copies > 1:
                starts[-1] = gs.Variable(seed.name, seed.dtype, _many(seed.shape))
                rows[seed.name] = op.Split(starts[-1], axis=0, num_outputs=copies, outputs=copies)
        nodes, found = [*self._fixed, *op.nodes], []
        for i in range(copies):
            own = {name: parts[i] for name, parts in rows.items()}
            copied, made = _copied(self._per_seed_nodes, given | own, f"@{i}")
            nodes += copied
            found.append([made.get(g.name, g) for g in self._gradients])
        results = []
        for g, parts in zip(self._gradients, zip(*found, strict=True), strict=True):
            whole = after.Concat(*parts, axis=0) if copies > 1 else parts[0]
            results.append(_named(after, g.name, whole, g, _many(g.shape)))
        return self._export([*nodes, *after.nodes], starts, results)

    def _entered(self, op: Emitter) -> dict[str, gs.Tensor]:
        """Return the residuals that rules have made as the backward pass reads them, by name."""
        made = {y.name for node in self._once for y in node.outputs}
        return {t.name: self.table.enter(op, t) for t in self._residuals if t.name in made}

    def reduced(self, formula: Formula, channel_axis: int | None = None) -> Part:
        """Residuals and seeds -> what `formula` makes of the signal at the single `wrt`.

        `channel_axis`: of the single output; then each seed is zero but for one channel, and instead of it
        the graph takes `planes(output)`, like the seed with that axis of size 1, and `channels(output)` [B].
        """
        (wrt,), op, signal = self.gradients, Emitter("reduced"), self._gradients[0]
        results = formula(op, signal, op.float(self._tensors[wrt]))
        named = {name: op.Identity(result) for name, result in results.items()}
        for name, result in named.items():
            result.name = name
        seeds, before = self._seeds, Emitter("planted")
        if channel_axis is not None:
            seeds = plant(before, self._seeds[0], self.outputs[0], channel_axis)
        nodes = [*before.nodes, *self._fixed, *self._per_seed_nodes, *op.nodes]
        starts = _unique([*self._residuals, self._tensors[wrt], *seeds])
        return self._export(nodes, starts, list(named.values()))

    def fused(self, picked: bool = False) -> Part:
        """Model inputs and seeds -> outputs, wrt and gradients, in one graph.

        `picked`: each seed is 1 at one element, and instead of it the graph takes `element(output)` [N], the
        number of the element, or -1 for the image's largest; where `picks`.
        """
        op, seeds, nodes = Emitter("picked"), self._seeds, self._per_seed_nodes
        if picked:
            values = self._tensors[self.outputs[0]]
            numbers, nodes = pick(op, seeds[0], values, nodes, self._fixed_names)
            seeds = [numbers]
        inputs = {t.name for t in self._graph.inputs}
        forward = [t for t in self._named(self.outputs + self.wrt) if t.name not in inputs]
        written = [*self._graph.nodes, *self._once, *op.nodes, *nodes]
        starts = [*self._sources(), *seeds]
        return self._export(written, starts, _unique([*forward, *self._gradients]))

    def tail(self) -> Part:
        """The layers wrt (and `beside`) -> outputs; raises LayerError where wrt is not a cut."""
        return self._from_wrt(self._named(self.outputs))

    def segment(self) -> Part:
        """The layers wrt (and `beside`) -> outputs and residuals; raises LayerError if wrt is not a cut."""
        given = {*self.wrt, *self.beside}
        results = _unique([*self._named(self.outputs), *self._residuals])
        return self._from_wrt([t for t in results if t.name not in given])

    def reference(self) -> Part:
        """The layers wrt -> the tensors named by `references`; raises LayerError if wrt is not a cut."""
        return self._from_wrt(self._named(self.references))

    @cached_property
    def beside(self) -> tuple[str, ...]:
        """Names of the model inputs that the layers wrt -> outputs read beside wrt."""
        return read_beside(self._graph, self.wrt, self.outputs)

    def _from_wrt(self, results: list[gs.Tensor]) -> Part:
        check_cut(self._graph, self.wrt, self.outputs)
        nodes = [*self._graph.nodes, *self._once]
        nodes = needed(nodes, [t.name for t in results], stop=self.wrt)
        # A start that its own producer would overwrite must lose that producer.
        kept = [n for n in nodes if not any(y.name in self.wrt for y in n.outputs)]
        starts = [*self._named((*self.wrt, *self.beside)), *self._references.used.values()]
        return self._export(kept, starts, results)

    def _sources(self) -> list[gs.Tensor]:
        return [*self._graph.inputs, *self._references.used.values()]

    def _named(self, names: Iterable[str]) -> list[gs.Tensor]:
        return [self._tensors[name] for name in names]

    def _seed(self, name: str) -> gs.Variable:
        if name not in self._tensors:
            raise ModelError(f"{name!r} is not a tensor of this model")
        tensor = self._tensors[name]
        shape = self._per_seed(tensor)
        return gs.Variable(f"seed({name})", dtype=_signal_dtype(tensor), shape=shape)

    def _per_seed(self, tensor: gs.Tensor) -> list[int | str] | None:
        """Return a tensor's shape with seeds in the place of images."""
        each = self.each and tensor.shape is not None
        return list(tensor.shape) if each else _many(tensor.shape)

    def _split(self, emitted: Sequence[gs.Node]) -> None:
        """Sort what was written into what depends on a seed and what one forward can compute."""
        wanted = needed(emitted, [t.name for t in self._gradients])
        per_seed = {t.name for t in self._seeds}
        self._once: list[gs.Node] = []
        self._per_seed_nodes: list[gs.Node] = []
        for node in wanted:
            depends = any(x.name in per_seed for x in node.inputs)
            (self._per_seed_nodes if depends else self._once).append(node)
            if depends:
                per_seed.update(y.name for y in node.outputs)
        # Written where it is read: handed from the forward to the backward it would be copied in each run.
        self._fixed, self._fixed_names = fixed_nodes([*self._graph.nodes, *emitted])
        read = [x for n in self._per_seed_nodes for x in n.inputs] + self._gradients
        self._residuals = _unique(
            x
            for x in read
            if not (
                x.is_empty()
                or isinstance(x, gs.Constant)
                or x.name in per_seed
                or x.name in self._fixed_names
            )
        )

    def _image_axes(self) -> set[str]:
        """Return the sizes of image axes on the path: "N", or "12N" where heads are merged in."""
        path = find_path(self._graph.nodes, set(self.wrt), set(self.outputs))
        shapes = [self._tensors[name].shape or () for name in path]
        return {s for shape in shapes for s in shape if isinstance(s, str)}

    def _export(
        self, nodes: Sequence[gs.Node], inputs: Sequence[gs.Tensor], outputs: Sequence[gs.Tensor]
    ) -> Part:
        nodes = needed(nodes, [t.name for t in outputs], stop={t.name for t in inputs})
        read = {x.name for n in nodes for x in reads(n)} | {t.name for t in outputs}
        inputs = [t for t in inputs if t.name in read]
        return export(self._graph, nodes, inputs, outputs)


def per_image(graph: gs.Graph) -> set[str]:
    """Return the names of the inputs that have a row for each image; the others are settings."""
    return {t.name for t in graph.inputs if t.shape and isinstance(t.shape[0], str)}


class _References(Mapping[str, gs.Tensor]):
    """Input tensors for values at the reference, made when a rule first asks for one."""

    def __init__(self, tensors: Mapping[str, gs.Tensor], of_one: bool) -> None:
        self._tensors, self._of_one = tensors, of_one
        self.used: dict[str, gs.Tensor] = {}

    def __getitem__(self, name: str) -> gs.Tensor:
        if name not in self.used:
            tensor = self._tensors[name]
            shape = tensor.shape
            if self._of_one and shape is not None:
                # One reference serves all images. Saying so in the shape matters: onnxruntime reuses
                # the buffers of tensors whose symbolic shapes agree.
                shape = [_of_one(s) for s in shape]
            self.used[name] = gs.Variable(name + REFERENCE, dtype=tensor.dtype, shape=shape)
        return self.used[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.used)

    def __len__(self) -> int:
        return len(self.used)


def _named(
    op: Emitter,
    name: str,
    signal: gs.Tensor,
    like: gs.Tensor,
    shape: list[int | str] | None,
) -> gs.Tensor:
    """Return the signal under a readable name, typed and shaped, as a graph output of its own."""
    result = op.Identity(signal)
    result.name, result.dtype, result.shape = name, _signal_dtype(like), shape
    return result


def _copied(
    nodes: Sequence[gs.Node], given: Mapping[str, gs.Tensor], suffix: str
) -> tuple[list[gs.Node], dict[str, gs.Tensor]]:
    """Return nodes like these that read what is `given`, and what they make by its name in the original."""
    known, copied = dict(given), []
    for node in nodes:
        made = {
            y.name: gs.Variable(y.name + suffix, y.dtype, y.shape) for y in node.outputs if y.name
        }
        inputs = [x if x.is_empty() else known.get(x.name, x) for x in node.inputs]
        outputs = [made.get(y.name, y) for y in node.outputs]
        copied.append(
            gs.Node(node.op, node.name + suffix, node.attrs, inputs, outputs, node.domain)
        )
        known |= made
    return copied, known


def _many(shape: Sequence[int | str] | None) -> list[int | str] | None:
    """Return a shape with seeds in the place of images."""
    return None if shape is None else [*(["B"] if shape else []), *shape[1:]]


def _of_one(size: int | str | None) -> int | None:
    """Return a symbolic size at one image."""
    return at_count(size, 1) if isinstance(size, str) else size


def _signal_dtype(tensor: gs.Tensor) -> np.dtype[np.floating]:
    """Signals are float32, or float64 in a float64 model."""
    return np.dtype(np.float64 if tensor.dtype == np.float64 else np.float32)


def _unique(tensors: Iterable[gs.Tensor]) -> list[gs.Tensor]:
    return list({t.name: t for t in tensors}.values())

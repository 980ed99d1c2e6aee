"""Forward, seed and backward as nodes of one graph, for files: nothing is fed but the model's inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from onnxplain.backward.seeds import multiplied
from onnxplain.backward.table import RuleTable
from onnxplain.backward.walk import walk
from onnxplain.errors import ModelError
from onnxplain.graph import host
from onnxplain.graph.emit import Emitter, Tensor
from onnxplain.graph.fold import fixed_nodes
from onnxplain.graph.paths import needed, reads

Array = np.ndarray[Any, Any]


class Draft:
    """A copy of a canonical graph, and an emitter `op` whose nodes come after it."""

    def __init__(self, graph: gs.Graph) -> None:
        """Copy `graph`; nothing is written yet."""
        self._graph = graph.copy()
        self._tensors: dict[str, Tensor] = self._graph.tensors()
        self.op = Emitter("explain")
        self.inputs: list[Tensor] = []
        self.outputs: dict[str, Tensor] = {}
        self.notes: list[str] = []

    def tensor(self, name: str) -> Tensor:
        """Return a tensor of the graph."""
        return self._tensors[name]

    def input(self, name: str, dtype: Any, shape: Sequence[int | str | None]) -> Tensor:
        """Return a new input of the file."""
        self.inputs.append(gs.Variable(name, dtype=np.dtype(dtype), shape=list(shape)))
        return self.inputs[-1]

    def output(self, name: str, tensor: Tensor, shape: Sequence[int | str | None]) -> None:
        """Make a tensor a new output of the file."""
        tensor.shape = list(shape)
        self.outputs[name] = tensor

    def backward(
        self,
        output: str,
        seed: Tensor,
        wrt: str,
        rules: RuleTable,
        reference: Mapping[str, Array],
        index: Tensor | None = None,
    ) -> Tensor:
        """Write the backward pass; return the signal at `wrt`.

        `reference`: what the rules read at the reference input, by tensor. `index`: where a seed that is
        one-hot is 1, int64 [N]. Raises UnsupportedOpError, and ModelError where the output does not depend
        on `wrt`.
        """
        constants = {
            name: self.op.constant(value, value.dtype) for name, value in reference.items()
        }
        before = len(self.op.nodes)
        signals, self.notes = walk(
            self._graph.nodes, {output: seed}, [wrt], rules, self.op, constants
        )
        if wrt not in signals:
            raise ModelError(f"{output} does not depend on {wrt}")
        signal = signals[wrt]
        if index is None:
            return signal
        seed.shape = self._tensors[output].shape
        return self._multiplied(seed, index, before).get(signal.name, signal)

    def _multiplied(self, seed: Tensor, index: Tensor, since: int) -> dict[str, Tensor]:
        """Rewrite what the nodes written since then multiply the seed with; return what is new, by name."""
        op, written = Emitter("row"), self.op.nodes[since:]
        _, fixed = fixed_nodes([*self._graph.nodes, *written])
        first = [node for node in written if node.outputs[0].name in fixed]
        then = [node for node in written if node.outputs[0].name not in fixed]
        then = multiplied(op, seed, index, then, fixed)
        self.op.nodes[since:] = [*first, *op.nodes, *then]
        return {y.name: y for node in op.nodes for y in node.outputs}

    def write_into(
        self, model: onnx.ModelProto, leaves: Iterable[str], prefix: str, one_size: bool
    ) -> None:
        """Write what the outputs need into the model of the file, once; names begin with `prefix`.

        leaves: tensors that are taken from the file's own nodes, beside its inputs. one_size: as for
        `host.graft`.
        """
        found = [host.frontier(self._graph, model, name) for name in leaves]
        starts = [tensor for part in found for tensor in part]
        stop = {t.name for t in (*starts, *self._graph.inputs)}
        written = [*self._graph.nodes, *self.op.nodes]
        nodes = needed(written, [t.name for t in self.outputs.values()], stop=stop)
        # A start that its own producer would overwrite must lose that producer.
        nodes = [n for n in nodes if not any(y.name in stop for y in n.outputs)]
        read = _read(nodes)
        first = {t.name: t for t in (*starts, *self._graph.inputs) if t.name in read}
        host.graft(model, nodes, self.inputs, self.outputs, first.values(), prefix, one_size)


def _read(nodes: Iterable[gs.Node]) -> set[str]:
    return {x.name for node in nodes for x in reads(node)}

"""Rule tables: what flows backward through each op.

A rule is a function `(c, g) -> gradient of each input`. `c` is the `Context` of one node, `g` the
signal at its output. It returns one tensor (for the first input) or a tuple with one entry per input;
None stands for "nothing flows there", which the walk accepts only for inputs off the path.

    @VJP.on("Relu")
    def relu(c, g):
        return c.op.Where(c.op.Greater(c.y[0], 0), g, 0)

A table falls back to its `base` for ops it does not name, so other backward semantics (DeepLIFT rescale,
guided backpropagation) are small tables over `VJP`, and the walk never learns their names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from onnxplain.graph.fusions import Rewrite

Apply = Callable[..., Any]

NOTHING = object()
"""What a rule returns for an input whose share it has already given to another input."""


@dataclass(frozen=True)
class Rule:
    """One op's backward rule.

    `exact` is False for a surrogate (straight-through), and `note` then says which; results list it.
    """

    apply: Apply
    exact: bool = True
    note: str = ""


class RuleTable:
    """Op type -> `Rule`, with fallback to `base`.

    `needs_reference` says that its rules read the activations of a reference input (`c.x0`, `c.y0`).
    `enter(op, tensor)` writes what a residual that the rules made passes first where it comes from another
    graph; it returns `tensor` itself where that is nothing. `rewrites` are of the forward's nodes, before the
    walk: op type -> (emitter, node) -> the same numbers, or None (`graph.canonical.rewrite`).
    """

    def __init__(
        self,
        name: str,
        base: RuleTable | None = None,
        *,
        needs_reference: bool = False,
        enter: Callable[[Any, Any], Any] = lambda op, tensor: tensor,
    ) -> None:
        """Make an empty table called `name`."""
        self.name = name
        self.base = base
        self.needs_reference = needs_reference
        self.enter = enter
        self.rewrites: dict[str, Rewrite] = {}
        self._rules: dict[str, Rule] = {}

    def on(self, *ops: str, exact: bool = True, note: str = "") -> Callable[[Apply], Apply]:
        """Register the decorated function as the rule of each op type in `ops`."""

        def register(apply: Apply) -> Apply:
            for op in ops:
                if op in self._rules:
                    raise ValueError(f"{self.name}: {op} has a rule already")
                self._rules[op] = Rule(apply, exact, note)
            return apply

        return register

    def instead(self, op: str) -> Callable[[Rewrite], Rewrite]:
        """Register the decorated function as the rewrite of an op type."""

        def register(rewrite: Rewrite) -> Rewrite:
            self.rewrites[op] = rewrite
            return rewrite

        return register

    def find(self, op: str) -> Rule | None:
        """Return the rule for an op type, from this table or its bases; None if there is none."""
        own = self._rules.get(op)
        return own if own is not None or self.base is None else self.base.find(op)

    def __contains__(self, op: str) -> bool:
        return self.find(op) is not None

    def __iter__(self) -> Iterator[str]:
        """Iterate over the ops this table itself names, in order of registration."""
        return iter(self._rules)


VJP = RuleTable("vjp")
"""The vector-Jacobian products: the exact gradient, except where a rule says otherwise."""

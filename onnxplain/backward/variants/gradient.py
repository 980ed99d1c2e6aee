"""The gradient's rule of a node, for tables that bend it."""

from __future__ import annotations

from onnx_graphsurgeon import Tensor

import onnxplain.backward.rules  # noqa: F401  (registers the gradient's rules)
from onnxplain.backward.context import Context
from onnxplain.backward.table import VJP


def gradient(c: Context, g: Tensor) -> list[Tensor | None]:
    """Return what the gradient's rule sends to each input of the node, at the values that `c` shows."""
    rule = VJP.find(c.type)
    if rule is None:
        raise c.refuse("onnxplain has no backward rule for this op")
    found = rule.apply(c, g)
    return list(found) if isinstance(found, (list, tuple)) else [found]

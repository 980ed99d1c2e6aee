"""Guided backpropagation (Springenberg et al. 2015, arXiv 1412.6806).

A rectifier passes a signal only where its own output and the signal are both positive. The paper knows
ReLU; its relatives, capped or leaky below zero, do the same here (ours). Smooth gates such as GELU keep
their gradient.
"""

from __future__ import annotations

from onnx_graphsurgeon import Tensor

from onnxplain.backward.context import Context
from onnxplain.backward.table import VJP, RuleTable
from onnxplain.backward.variants.gradient import gradient

GUIDED = RuleTable("guided", base=VJP)
"""Guided backpropagation: positive signals through positive activations."""


@GUIDED.on("Relu", "LeakyRelu", "PRelu", "ThresholdedRelu", "Elu", "Selu", "Celu")
def rectifier(c: Context, g: Tensor) -> Tensor:
    """Drop what is negative, of the signal and of the activation."""
    return c.op.Where(c.op.Greater(c.y[0], 0), gradient(c, c.op.Relu(g))[0], 0)


@GUIDED.on("Clip")
def clip(c: Context, g: Tensor) -> Tensor:
    """Treat a Clip from zero or above (ReLU6) as a rectifier; any other keeps its gradient."""
    rectifies = c.has(1) and float(c.const(1)) >= 0
    return gradient(c, c.op.Relu(g) if rectifies else g)[0]

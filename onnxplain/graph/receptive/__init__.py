"""Receptive fields of the positions of a feature map, followed through the graph."""

from onnxplain.graph.receptive.fields import ReceptiveFields

__all__ = ["ReceptiveFields"]

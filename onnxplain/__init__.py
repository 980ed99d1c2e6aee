"""Explain why a network exported to ONNX decided what it decided, from the .onnx file alone.

    import onnxplain as ox
    model = ox.load("model.onnx")
    x = model.read(["cat.jpg"])
    cam = ox.cam(model, x, kind="lift_cam")

Names are imported on first use, so that `import onnxplain` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from onnxplain.version import __version__

if TYPE_CHECKING:
    from onnxplain.errors import OnnxplainError as OnnxplainError
    from onnxplain.graph.layers import Layer as Layer
    from onnxplain.hierarchy import Hierarchy as Hierarchy
    from onnxplain.hierarchy import HNode as HNode
    from onnxplain.methods.averaged import integrated_gradients as integrated_gradients
    from onnxplain.methods.averaged import smooth_grad as smooth_grad
    from onnxplain.methods.cam import cam as cam
    from onnxplain.methods.decompose import decompose as decompose
    from onnxplain.methods.decompose import decompose_many as decompose_many
    from onnxplain.methods.exemplars import exemplars as exemplars
    from onnxplain.methods.gradient import gradient as gradient
    from onnxplain.methods.gradient import guided_backprop as guided_backprop
    from onnxplain.methods.saliency import saliency as saliency
    from onnxplain.methods.similar import similar as similar
    from onnxplain.metrics.evaluate import evaluate as evaluate
    from onnxplain.metrics.occlude import occlude as occlude
    from onnxplain.model import Model as Model
    from onnxplain.model import load as load
    from onnxplain.preprocess import Preprocess as Preprocess
    from onnxplain.results import Attribution as Attribution
    from onnxplain.results import Cam as Cam
    from onnxplain.results import Prediction as Prediction
    from onnxplain.results import Saliency as Saliency
    from onnxplain.target import Target as Target

_HOMES = {
    "Attribution": "results",
    "Cam": "results",
    "HNode": "hierarchy",
    "Hierarchy": "hierarchy",
    "Layer": "graph.layers",
    "Model": "model",
    "OnnxplainError": "errors",
    "Prediction": "results",
    "Preprocess": "preprocess",
    "Saliency": "results",
    "Target": "target",
    "cam": "methods.cam",
    "decompose": "methods.decompose",
    "decompose_many": "methods.decompose",
    "evaluate": "metrics.evaluate",
    "exemplars": "methods.exemplars",
    "gradient": "methods.gradient",
    "guided_backprop": "methods.gradient",
    "integrated_gradients": "methods.averaged",
    "load": "model",
    "occlude": "metrics.occlude",
    "saliency": "methods.saliency",
    "similar": "methods.similar",
    "smooth_grad": "methods.averaged",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'onnxplain' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"onnxplain.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

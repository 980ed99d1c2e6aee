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
    from onnxplain.checks import Report as Report
    from onnxplain.checks import check as check
    from onnxplain.checks import compare as compare
    from onnxplain.dataset import Run as Run
    from onnxplain.embed import Exported as Exported
    from onnxplain.embed import export as export
    from onnxplain.errors import OnnxplainError as OnnxplainError
    from onnxplain.graph.layers import Layer as Layer
    from onnxplain.hierarchy import Hierarchy as Hierarchy
    from onnxplain.hierarchy import HNode as HNode
    from onnxplain.methods.agreement import layer_agreement as layer_agreement
    from onnxplain.methods.averaged import integrated_gradients as integrated_gradients
    from onnxplain.methods.averaged import smooth_grad as smooth_grad
    from onnxplain.methods.cam import cam as cam
    from onnxplain.methods.correlation import feature_correlation as feature_correlation
    from onnxplain.methods.decompose import decompose as decompose
    from onnxplain.methods.decompose import decompose_many as decompose_many
    from onnxplain.methods.exemplars import exemplars as exemplars
    from onnxplain.methods.gradient import gradient as gradient
    from onnxplain.methods.gradient import guided_backprop as guided_backprop
    from onnxplain.methods.hybrid import hybrid_view as hybrid_view
    from onnxplain.methods.importance import filter_importance as filter_importance
    from onnxplain.methods.importance import group_importance as group_importance
    from onnxplain.methods.importance import removal_curves as removal_curves
    from onnxplain.methods.monitor import monitor as monitor
    from onnxplain.methods.predictions import layer_predictions as layer_predictions
    from onnxplain.methods.readouts import fit_readouts as fit_readouts
    from onnxplain.methods.saliency import saliency as saliency
    from onnxplain.methods.similar import similar as similar
    from onnxplain.metrics.evaluate import evaluate as evaluate
    from onnxplain.metrics.occlude import occlude as occlude
    from onnxplain.model import Model as Model
    from onnxplain.model import load as load
    from onnxplain.preprocess import Preprocess as Preprocess
    from onnxplain.results import Attribution as Attribution
    from onnxplain.results import Cam as Cam
    from onnxplain.results import Comparison as Comparison
    from onnxplain.results import LayerAgreement as LayerAgreement
    from onnxplain.results import LayerPredictions as LayerPredictions
    from onnxplain.results import Prediction as Prediction
    from onnxplain.results import Readouts as Readouts
    from onnxplain.results import Saliency as Saliency
    from onnxplain.target import Target as Target

_HOMES = {
    "Attribution": "results",
    "Cam": "results",
    "Comparison": "results",
    "Exported": "embed",
    "HNode": "hierarchy",
    "Hierarchy": "hierarchy",
    "Layer": "graph.layers",
    "LayerAgreement": "results",
    "LayerPredictions": "results",
    "Model": "model",
    "OnnxplainError": "errors",
    "Prediction": "results",
    "Preprocess": "preprocess",
    "Report": "checks",
    "Run": "dataset",
    "Readouts": "results",
    "Saliency": "results",
    "Target": "target",
    "cam": "methods.cam",
    "check": "checks",
    "compare": "checks",
    "decompose": "methods.decompose",
    "decompose_many": "methods.decompose",
    "evaluate": "metrics.evaluate",
    "exemplars": "methods.exemplars",
    "export": "embed",
    "feature_correlation": "methods.correlation",
    "filter_importance": "methods.importance",
    "fit_readouts": "methods.readouts",
    "gradient": "methods.gradient",
    "guided_backprop": "methods.gradient",
    "group_importance": "methods.importance",
    "hybrid_view": "methods.hybrid",
    "integrated_gradients": "methods.averaged",
    "layer_agreement": "methods.agreement",
    "layer_predictions": "methods.predictions",
    "load": "model",
    "monitor": "methods.monitor",
    "occlude": "metrics.occlude",
    "removal_curves": "methods.importance",
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

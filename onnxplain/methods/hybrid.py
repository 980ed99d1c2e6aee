"""Local and global interpretability together: what filters say of an image, what they are worth at all."""

from __future__ import annotations

import numpy as np

from onnxplain.errors import ConfigError
from onnxplain.methods.common import whole
from onnxplain.methods.correlation import PAPER
from onnxplain.results import LayerPredictions
from onnxplain.results.filters import FilterImportance, spearman
from onnxplain.results.hybrid import HybridLayer, HybridView

TOP = 0.1
"""Share of a layer's filters that count as locally high."""


def hybrid_view(
    predictions: LayerPredictions, importance: FilterImportance, image: int = 0
) -> HybridView:
    """Set the evidence of filters for one image beside their importance over a data set, layer by layer.

    predictions: by readouts, whose evidence is W[k, c] phi_k. importance: of the same model. A filter is
    unusual evidence where it is among the tenth with the most |evidence| for this image and in the less
    important half over the data. Source: the idea is the paper's (arXiv 2211.00185), the rule is ours.

    Raises ConfigError: predictions without evidence, of another model, without a layer in common, or no
    such image.
    """
    if not predictions.evidence:
        raise ConfigError("evidence of filters needs predictions by readouts: give references")
    if predictions.meta.get("sha256") != importance.meta.get("sha256"):
        raise ConfigError(
            f"the importance is that of {importance.meta.get('model')}, the predictions are those of "
            f"{predictions.meta.get('model')}"
        )
    if not whole(image, 0) or image >= len(predictions.final):
        raise ConfigError(f"image {image!r} is not one of {len(predictions.final)}")
    found = []
    for layer in importance.layers:
        if layer.layer not in predictions.layers:
            continue
        local = predictions.evidence[predictions.layers.index(layer.layer)][image]
        high = np.argsort(-np.abs(local), kind="stable")[: max(1, round(TOP * len(local)))]
        low = layer.ranking()[(len(local) + 1) // 2 :]
        unusual = [int(k) for k in high if local[k] != 0 and k in low]
        found.append(
            HybridLayer(
                layer=layer.layer,
                local=local.astype(np.float64),
                effect=layer.effect,
                agreement=spearman(np.abs(local), layer.effect),
                unusual=tuple(unusual),
            )
        )
    if not found:
        raise ConfigError("predictions and importance have no layer in common")
    return HybridView(
        layers=tuple(found), meta={**predictions.meta, "method": "hybrid_view", "paper": PAPER}
    )

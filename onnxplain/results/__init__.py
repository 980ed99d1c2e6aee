"""What the methods return: frozen records that can be saved, loaded and compared."""

from onnxplain.results.comparison import Comparison
from onnxplain.results.maps import bilinear, interpolation, minmax
from onnxplain.results.predictions import LayerAgreement, LayerPredictions, Readouts
from onnxplain.results.record import Record, axes
from onnxplain.results.records import Attribution, Cam, Explanation, Prediction, Ranked, Saliency

__all__ = [
    "Attribution",
    "Cam",
    "Comparison",
    "Explanation",
    "LayerAgreement",
    "LayerPredictions",
    "Prediction",
    "Ranked",
    "Readouts",
    "Record",
    "Saliency",
    "axes",
    "bilinear",
    "interpolation",
    "minmax",
]

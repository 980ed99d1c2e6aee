"""Picture files -> model input. ONNX files do not say how to feed them; this does.

- spec: what the graph says about its input
- settings: what to do with a picture (presets, files, checks); values: single settings, checked
- sidecar: settings and labels that travel with a model, or a guess
- images, arrays: files -> pictures or arrays, safely
- pixels: pictures -> model input, and back
"""

from onnxplain.preprocess.arrays import check_array
from onnxplain.preprocess.images import decoded, from_array, open_image, resized, seen_box
from onnxplain.preprocess.pixels import (
    Source,
    decode,
    displayed,
    encode,
    fed,
    picture,
    pixel_scale,
    read,
)
from onnxplain.preprocess.settings import PRESETS, Preprocess, as_preprocess
from onnxplain.preprocess.sidecar import PREPROCESS_KEY, find, find_labels, guess, read_labels
from onnxplain.preprocess.spec import InputSpec

__all__ = [
    "PREPROCESS_KEY",
    "PRESETS",
    "InputSpec",
    "Preprocess",
    "Source",
    "as_preprocess",
    "check_array",
    "decode",
    "decoded",
    "displayed",
    "encode",
    "fed",
    "find",
    "find_labels",
    "from_array",
    "guess",
    "open_image",
    "picture",
    "pixel_scale",
    "read",
    "read_labels",
    "resized",
    "seen_box",
]

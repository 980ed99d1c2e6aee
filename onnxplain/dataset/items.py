"""Items -> model input."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np

from onnxplain.dataset.source import Array, Item
from onnxplain.errors import InputError
from onnxplain.model import Model
from onnxplain.preprocess import check_array, decoded, from_array


def read_item(item: Item, model: Model) -> Array:
    """Return an item as the model is fed, [1, ...]; raises InputError for one that does not fit it."""
    content = item.content
    if isinstance(content, Path):
        x = model.read([content])
    elif isinstance(content, bytes):
        x = model.read([decoded(BytesIO(content), item.name)])
    elif content.dtype == np.uint8 and model.spec.is_picture and content.ndim < 4:
        x = model.read([from_array(content, item.name)])
    else:
        x = check_array(content, model.spec, item.name)
    if x.shape != (1, *model.graph.source.shape[1:]):
        raise InputError(f"{item.name}: of shape {list(x.shape)}, not one input")
    return x

"""What a feature of a hierarchy looks at: the picture at its receptive field, with its heat map."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from onnxplain.errors import ConfigError
from onnxplain.hierarchy import Hierarchy, HNode
from onnxplain.render.blend import overlay, signed
from onnxplain.render.panels import TINY
from onnxplain.results.maps import bilinear

Array = np.ndarray[Any, Any]


def heat(hierarchy: Hierarchy, node: HNode | str) -> Array:
    """Return where a feature's evidence lies, float32 [H, W] in [0, 1], in the picture's size.

    relu(M) / max, of an inhibitor relu(-M) / max, bilinear with half-pixel centres. Zeros for the root and
    for a map of one position, which says nothing about where; without a picture in the map's own size.
    """
    node = hierarchy[node] if isinstance(node, str) else node
    own = (1, 1) if node.map is None else node.map.shape
    size = own if hierarchy.image is None else hierarchy.image.shape[:2]
    if node.map is None or node.map.size == 1:
        return np.zeros(size, np.float32)
    values = np.maximum(-node.map if node.inhibits else node.map, 0)
    return bilinear(values / (values.max() or 1), size)


def evidence(hierarchy: Hierarchy, node: HNode | str, size: int = 160) -> Image.Image:
    """Draw what a feature looks at: the picture at its receptive field, with its heat map.

    Warm where it supports its parent; blue, on a pale picture, where it inhibits. Of the root the whole
    picture. `size` is the longer side of the result, pixels. Without a picture the map alone is drawn.

    Raises ConfigError for a size below 1, KeyError for an unknown node.
    """
    if size < 1:
        raise ConfigError(f"size = {size} must be 1 pixel or more")
    node = hierarchy[node] if isinstance(node, str) else node
    warm = heat(hierarchy, node)
    photo = hierarchy.image
    box = node.box or (0, 0, *warm.shape)
    if photo is None:
        photo, box = np.full((*warm.shape, 3), 110, np.uint8), (0, 0, *warm.shape)
    top, left, bottom, right = box
    how = Image.Resampling.NEAREST if max(warm.shape) <= TINY else Image.Resampling.LANCZOS
    crop = _enlarged(photo[top:bottom, left:right], size, how)
    warm = warm[top:bottom, left:right]
    if not warm.any():
        return Image.fromarray(crop)
    return Image.fromarray(signed(crop, -warm, limit=1) if node.inhibits else overlay(crop, warm))


def _enlarged(crop: Array, size: int, how: Image.Resampling) -> Array:
    """Scale a crop so that its longer side has `size` pixels."""
    height, width = crop.shape[:2]
    zoom = size / max(height, width)
    shape = (max(1, round(width * zoom)), max(1, round(height * zoom)))
    return np.asarray(Image.fromarray(np.ascontiguousarray(crop)).resize(shape, how))

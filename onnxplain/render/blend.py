"""A heat map over a photo: the colour where there is evidence, the photo where there is none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnxplain.errors import InputError
from onnxplain.render.color import colormap
from onnxplain.results.maps import bilinear

Picture = NDArray[np.uint8]
ROBUST = 99.5  # percentile of |values| that gets full colour in signed maps
_LUMA = np.array([0.299, 0.587, 0.114])


def overlay(
    image: np.ndarray, heat: np.ndarray, alpha: float = 0.85, cmap: str = "inferno"
) -> Picture:
    """Lay a heat map over a photo.

    The colour's opacity grows with the heat, from 0 up to `alpha`; what lies cold keeps the photo,
    a little darker and less colourful, so that the two cannot be mistaken for each other.

    Args:
        image: uint8 [H, W, 3].
        heat: [h, w] in [0, 1]; enlarged smoothly to [H, W].
        alpha: opacity at heat 1, in [0, 1].
        cmap: a name from COLORMAPS.

    Raises:
        InputError: a shape or range is wrong, or `heat` holds NaN.
        ConfigError: the colour map is unknown.
    """
    photo, warm = _checked(image, heat)
    if warm.min() < 0 or warm.max() > 1:
        raise InputError(
            f"heat must lie in [0, 1], got {warm.min():.4g}..{warm.max():.4g}: use .heatmap(), or "
            "signed() for values below 0"
        )
    opacity = alpha * np.clip(1.4 * warm, 0, 1) ** 1.2
    return _blend(
        0.9 * _muted(photo, 0.55), colormap(cmap)[np.rint(255 * warm).astype(int)], opacity
    )


def signed(
    image: np.ndarray, values: np.ndarray, alpha: float = 0.9, limit: float | None = None
) -> Picture:
    """Lay signed values over a photo: red above zero, blue below, as strong as they are large.

    Args:
        image: uint8 [H, W, 3]; shown light and nearly grey.
        values: [h, w]; enlarged smoothly to [H, W].
        alpha: opacity of the strongest values, in [0, 1].
        limit: the magnitude that gets full colour; `symmetric_limit(values)` when None.

    Raises:
        InputError: a shape is wrong, or `values` holds NaN.
    """
    photo, v = _checked(image, values)
    limit = symmetric_limit(values) if limit is None else limit
    share = np.clip(v / limit, -1, 1)
    strength = np.abs(share)
    # opacity does the fading: the map's own whitish middle would leave rims on a dark photo
    colour = np.sign(share) * (0.4 + 0.6 * strength)
    pale = 0.55 * _muted(photo, 0.9) + 0.45 * 255
    table = colormap("diverging")
    return _blend(pale, table[np.rint(127.5 * (colour + 1)).astype(int)], alpha * strength**0.8)


def symmetric_limit(values: np.ndarray) -> float:
    """Return the magnitude that gets full colour: the 99.5th percentile of |values|.

    Robust, so that a few extreme pixels do not turn the rest pale; the maximum where the
    percentile is 0, and 1 for an all-zero map.
    """
    magnitude = np.abs(values)
    return float(np.percentile(magnitude, ROBUST)) or float(magnitude.max()) or 1.0


def check_picture(image: np.ndarray) -> None:
    """Raise InputError unless `image` is uint8 [H, W, 3]."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise InputError(f"image must be uint8 [H, W, 3], got {image.dtype} {list(image.shape)}")


def check_map(values: np.ndarray) -> None:
    """Raise InputError unless `values` is [h, w] and finite."""
    if values.ndim != 2 or values.size == 0:
        raise InputError(f"a map must be [h, w], got {list(values.shape)}")
    if not np.isfinite(values).all():
        raise InputError("a map with NaN or infinite values cannot be drawn")


def _checked(image: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the photo as float and the map in the photo's size."""
    check_picture(image)
    check_map(values)
    height, width = image.shape[:2]
    return image.astype(np.float64), bilinear(values, (height, width)).astype(np.float64)


def _muted(photo: np.ndarray, share: float) -> np.ndarray:
    """Return the photo with `share` of its colour taken out."""
    muted: np.ndarray = (1 - share) * photo + share * (photo @ _LUMA)[..., None]
    return muted


def _blend(below: np.ndarray, above: np.ndarray, opacity: np.ndarray) -> Picture:
    mixed: np.ndarray = below + opacity[..., None] * (above - below)
    picture: Picture = np.rint(mixed).astype(np.uint8)
    return picture

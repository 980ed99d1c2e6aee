"""Pictures -> model input, and back: the one place that knows pixel from number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from onnxplain.errors import InputError
from onnxplain.preprocess import arrays, images
from onnxplain.preprocess.settings import Preprocess
from onnxplain.preprocess.spec import InputSpec

Source = str | Path | Image.Image | np.ndarray


def read(sources: Source | Sequence[Source], spec: InputSpec, pre: Preprocess) -> np.ndarray:
    """Read pictures into one batch of model input.

    Args:
        sources: paths, Pillow pictures or uint8 arrays [H, W] or [H, W, 3] (RGB); one of them, or
            a list, or a uint8 array [N, H, W, 3]. Files .npy, .npz and .pb hold model input
            already, one item or a batch, and are only checked (see `check_array`).
        spec: the model's input.
        pre: how a picture is fed to it.

    Returns:
        [N, *spec.shape] of spec.dtype; integer types are rounded and clipped to their range.

    Raises:
        InputError: nothing given, unreadable, or it does not fit the model.
        ConfigError: the settings do not fit the model.
    """
    batch = _as_list(sources)
    if not batch:
        raise InputError("no pictures given")
    return np.concatenate([_one(source, i, spec, pre) for i, source in enumerate(batch)])


def encode(pixel01: np.ndarray, spec: InputSpec, pre: Preprocess) -> np.ndarray:
    """Turn pixels into model input.

    Args:
        pixel01: [N, *spec.shape], pixel / 255 in [0, 1], in the model's layout and channel order.
        spec: the model's input.
        pre: gives scale, mean and std.

    Returns:
        [N, *spec.shape] of spec.dtype; integer types are rounded and clipped to their range.
    """
    a, b = (_along_channels(v, spec) for v in pre.affine(spec))
    x: np.ndarray = np.asarray(pixel01, np.float64) * (255 * a) + b
    if spec.dtype.kind in "iu":
        limit = np.iinfo(spec.dtype)
        x = np.clip(np.rint(x), limit.min, limit.max)
    return x.astype(spec.dtype)


def decode(x: np.ndarray, spec: InputSpec, pre: Preprocess) -> np.ndarray:
    """Turn model input into pixels, float32 [N, *spec.shape]: the inverse of `encode`.

    The result is in [0, 1] where `x` came from a picture; it is not clipped.
    """
    a, b = (_along_channels(v, spec) for v in pre.affine(spec))
    pixel01: np.ndarray = (np.asarray(x, np.float64) - b) / (255 * a)
    return pixel01.astype(np.float32)


def pixel_scale(spec: InputSpec, pre: Preprocess) -> np.ndarray:
    """Return d(model input) / d(pixel / 255) = 255 scale / std, to multiply gradients with.

    Returns:
        float32 that broadcasts to [N, *spec.shape].
    """
    return _along_channels(255 * pre.affine(spec)[0], spec).astype(np.float32)


def picture(x: np.ndarray, spec: InputSpec, pre: Preprocess) -> np.ndarray:
    """Return model input as pictures, uint8 RGB [N, H, W, 3]: what the model sees.

    Args:
        x: [N, *spec.shape]; what lies outside black and white is clipped.
        spec: the model's input.
        pre: how pictures are fed to it.
    """
    pixels: np.ndarray = np.rint(255 * np.clip(decode(x, spec, pre), 0, 1)).astype(np.uint8)
    axis = spec.channel_axis
    pixels = pixels[..., None] if axis is None else np.moveaxis(pixels, axis, 3)
    if pixels.shape[3] == 1:
        pixels = np.repeat(pixels, 3, 3)
    if pre.channels == "BGR":
        pixels = pixels[..., ::-1]
    return np.ascontiguousarray(pixels)


def fed(pictures: np.ndarray, spec: InputSpec, pre: Preprocess) -> np.ndarray:
    """Return pictures of the model's size, uint8 RGB [N, H, W, 3], as model input: undoes `picture`."""
    return np.concatenate([_fed(Image.fromarray(one), spec, pre) for one in pictures])


def displayed(source: Source, spec: InputSpec, pre: Preprocess) -> np.ndarray:
    """Return a source as the model sees it (after resize and crop), uint8 RGB [H, W, 3]."""
    first: np.ndarray = picture(read([source], spec, pre)[:1], spec, pre)[0]
    return first


def _as_list(sources: Source | Sequence[Source]) -> list[Source]:
    if isinstance(sources, str | Path | Image.Image):
        return [sources]
    if isinstance(sources, np.ndarray):
        return list(sources) if sources.ndim == 4 else [sources]
    return list(sources)


def _one(source: Source, index: int, spec: InputSpec, pre: Preprocess) -> np.ndarray:
    """Read one source to [n, *spec.shape]."""
    name = f"picture {index}"
    if isinstance(source, str | Path):
        path = Path(source)
        if path.suffix.lower() in arrays.SUFFIXES:
            return arrays.load_array(path, spec)
        name, image = str(path), images.open_image(path)
    elif isinstance(source, Image.Image):
        image = images.upright(source, name)
    elif isinstance(source, np.ndarray):
        image = images.from_array(source, name)
    else:
        raise InputError(
            f"{name}: is a {type(source).__name__}; give a path, a Pillow picture or a uint8 array"
        )
    return _fed(images.resized(image, pre.target_size(spec), pre, name), spec, pre)


def _fed(image: Image.Image, spec: InputSpec, pre: Preprocess) -> np.ndarray:
    """Bring a picture of the right size to layout, channel order and numbers."""
    pixels = np.atleast_3d(np.asarray(image.convert("L" if spec.channels == 1 else "RGB")))
    if pre.channels == "BGR":
        pixels = pixels[..., ::-1]
    if spec.channel_axis is None:
        pixels = pixels[..., 0]
    elif spec.layout == "NCHW":
        pixels = pixels.transpose(2, 0, 1)
    return encode(pixels[None] / 255, spec, pre)


def _along_channels(values: np.ndarray, spec: InputSpec) -> np.ndarray:
    """Give per-channel values the axes of a batch [N, *spec.shape]."""
    if spec.channel_axis is None:
        return values
    shape = [1, 1, 1, 1]
    shape[spec.channel_axis] = -1
    return values.reshape(shape)

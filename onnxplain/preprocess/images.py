"""Picture files and arrays -> 8-bit RGB or grey pictures of the size that the model wants.

Colour profiles are not applied: networks are trained on the stored values too.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from onnxplain.errors import ConfigError, InputError
from onnxplain.preprocess.settings import Preprocess

# Only plain raster formats: some of Pillow's other readers start programs (EPS runs Ghostscript).
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
MAX_PIXELS = 89_478_485  # where Pillow begins to warn of bombs: 256 MiB as RGB


def open_image(path: str | Path) -> Image.Image:
    """Decode a picture file into an 8-bit "RGB" or "L" picture, upright.

    The EXIF orientation is applied, transparency laid over white, a palette or CMYK converted,
    16-bit grey scaled (not clipped) to 8 bits. Of an animation or multi-page file the first
    picture is taken.

    Raises:
        InputError: missing, empty, truncated, not one of FORMATS, or more than MAX_PIXELS pixels
            (refused before any pixel is decoded).
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: {'is not a file' if path.exists() else 'no such file'}")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty")
    return decoded(path, str(path))


def decoded(source: Path | BinaryIO, name: str) -> Image.Image:
    """Decode a file, or its bytes in memory, as `open_image` does; `name` is for messages."""
    with _quiet():
        try:
            image = Image.open(source, formats=FORMATS)
        except Exception as error:  # decoders raise anything on hostile bytes
            also = " (or .npy, .npz, .pb)" if isinstance(source, Path) else ""
            raise InputError(_unreadable(name, error, also)) from error
        with image:
            return upright(image, name)


def upright(image: Image.Image, name: str) -> Image.Image:
    """Decode an open picture as `open_image` does; `name` is for messages."""
    width, height = image.size
    if not 0 < width * height <= MAX_PIXELS:
        raise InputError(
            f"{name}: {width} x {height} pixels; from 1 to {MAX_PIXELS / 1e6:.0f} million "
            "can be read: scale it down first"
        )
    with _quiet():
        try:
            return _eight_bit(ImageOps.exif_transpose(image), image.format)
        except Exception as error:  # as above: decoding happens here
            raise InputError(_unreadable(name, error)) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence Pillow's warnings: odd metadata is no reason to fail, bombs are refused anyway."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _unreadable(name: str, error: Exception, also: str = "") -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"{name}: not a picture; {', '.join(FORMATS)}{also} can be read"
    if isinstance(error, Image.DecompressionBombError):
        return f"{name}: too many pixels to decode safely: scale it down first"
    return f"{name}: cannot be decoded ({error}); is it complete? Save it again as PNG"


def _eight_bit(image: Image.Image, file_format: str | None) -> Image.Image:
    mode = image.mode
    if mode.startswith("I;16") or (mode == "I" and file_format in ("PNG", "PPM")):
        grey = np.asarray(image, np.float64) / 257  # 65535 -> 255
        return Image.fromarray(np.rint(grey).astype(np.uint8))
    if mode in ("I", "F"):
        raise ValueError("32-bit grey has no agreed range")
    target = "L" if mode in ("1", "L", "LA", "La") else "RGB"
    if not image.has_transparency_data:
        return image.convert(target)
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert(target)


def from_array(pixels: np.ndarray, name: str) -> Image.Image:
    """Turn uint8 [H, W], [H, W, 1] or [H, W, 3] (RGB) into a picture."""
    grey = pixels.ndim == 3 and pixels.shape[2] == 1
    pixels = pixels[..., 0] if grey else pixels
    if pixels.dtype != np.uint8 or pixels.shape[2:] not in ((), (3,)) or pixels.ndim < 2:
        raise InputError(
            f"{name}: a picture is uint8 [H, W] or [H, W, 3], not {pixels.dtype} "
            f"{list(pixels.shape)}; an array that is ready for the model needs no reading"
        )
    if pixels.size == 0:
        raise InputError(f"{name}: has no pixels: {list(pixels.shape)}")
    return Image.fromarray(np.ascontiguousarray(pixels))


def seen_box(
    width: int, height: int, size: tuple[int, int], pre: Preprocess
) -> tuple[float, float, float, float]:
    """Return the part of a picture that the model sees, as (left, top, right, bottom) in pixels.

    Args:
        width: of the picture, pixels.
        height: of the picture, pixels.
        size: (height, width) of the model's input.
        pre: how pictures are resized.

    Raises:
        InputError: resize is "none" and the picture has another size, or it is far too narrow.
        ConfigError: after `short` the picture is smaller than the crop.
    """
    h, w = size
    if pre.resize == "none" and (width, height) != (w, h):
        raise InputError(
            f"is {height} x {width} (height x width), not {h} x {w}, and resize is 'none'"
        )
    if pre.resize == "short":
        (new_w, new_h), (left, top) = _short_crop(width, height, size, pre)
        sx, sy = width / new_w, height / new_h
        box = (left * sx, top * sy, (left + w) * sx, (top + h) * sy)
    elif pre.resize == "fit":
        zoom = min(width / w, height / h)
        dx, dy = (width - w * zoom) / 2, (height - h * zoom) / 2
        box = (dx, dy, width - dx, height - dy)
    else:
        box = (0, 0, width, height)
    return max(box[0], 0.0), max(box[1], 0.0), min(box[2], width), min(box[3], height)


def _short_crop(
    width: int, height: int, size: tuple[int, int], pre: Preprocess
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return (width, height) after `short` and (left, top) of the crop, rounded as torchvision."""
    h, w = size
    short = pre.short or round(max(h, w) * 256 / 224)
    new_w = short if width <= height else int(short * width / height)
    new_h = short if height <= width else int(short * height / width)
    if new_w < w or new_h < h:
        raise ConfigError(f"{pre.source}: short = {short} is too small to crop {h} x {w} from")
    if new_w * new_h > MAX_PIXELS:
        raise InputError(f"is too narrow: {width} x {height} pixels; crop it, or use resize 'fit'")
    return (new_w, new_h), (round((new_w - w) / 2), round((new_h - h) / 2))


def resized(image: Image.Image, size: tuple[int, int], pre: Preprocess, name: str) -> Image.Image:
    """Scale and crop to `size` (height, width)."""
    h, w = size
    method = Image.Resampling[pre.interpolation.upper()]
    try:
        box = seen_box(*image.size, size, pre)
        if pre.resize == "short":  # in two steps: bit for bit what torchvision does
            scaled, (left, top) = _short_crop(*image.size, size, pre)
            return image.resize(scaled, method).crop((left, top, left + w, top + h))
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    return image.resize((w, h), method, box=box)

"""How a picture becomes the numbers a model was trained on, and the usual presets."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxplain.errors import ConfigError
from onnxplain.preprocess.spec import InputSpec
from onnxplain.preprocess.values import RULES, Channels, Interpolation, Resize, convert

MIN_LEVELS = 16  # an integer input that tells fewer grey levels apart has the wrong scale

_HALF = (127.5,)
PRESETS: dict[str, dict[str, Any]] = {
    "imagenet": {  # torchvision
        "resize": "short",
        "scale": 1 / 255,
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    },
    "inception": {"resize": "short", "mean": _HALF, "std": _HALF},  # TF-slim, Keras "tf": -1..1
    "caffe": {  # Keras "caffe": BGR, mean taken off, not scaled
        "resize": "short",
        "channels": "BGR",
        "mean": (103.939, 116.779, 123.68),
    },
    "raw": {},  # 0..255
    "unit": {"scale": 1 / 255},  # 0..1
}


@dataclass(frozen=True)
class Preprocess:
    """How a picture is fed: x = (pixel * scale - mean) / std, pixel in 0..255.

    Attributes:
        resize: "short": the short side becomes `short`, then a centre crop to the size;
            "squash": straight to the size, whatever the proportions; "fit": cover the size, then
            crop the rest off around the centre; "none": the picture must have the size already.
        short: pixels, for resize "short"; None means 256/224 of the size's longer side.
        size: (height, width) in pixels; None takes the graph's.
        interpolation: a Pillow filter's name, in lower case; all but nearest antialias.
        scale: factor on the pixel value.
        mean: one value, or one per channel in the model's channel order.
        std: one value, or one per channel in the model's channel order.
        channels: the model's channel order; a model of one channel gets grey (ITU-R 601).
        source: where these settings come from, in words.

    Raises:
        ConfigError: a value has the wrong type or is out of range.
    """

    resize: Resize = "squash"
    short: int | None = None
    size: tuple[int, int] | None = None
    interpolation: Interpolation = "bilinear"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    channels: Channels = "RGB"
    source: str = "given"

    def __post_init__(self) -> None:
        for key in RULES:
            try:
                object.__setattr__(self, key, convert(key, getattr(self, key)))
            except ValueError as error:
                raise ConfigError(f"{self.source}: {error}") from error

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> Preprocess:
        """Return the preset `name` (a key of PRESETS) with single settings replaced."""
        return cls.from_dict({**overrides, "preset": name}, f"preset {name}")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], source: str) -> Preprocess:
        """Build from plain data; keys left out come from the key "preset", else from "raw".

        Args:
            data: settings by name, and optionally "preset".
            source: where they come from, for messages and the `source` attribute.

        Raises:
            ConfigError: unknown key or preset, wrong type, value out of range.
        """
        allowed = ("preset", *RULES)
        if unknown := [key for key in data if key not in allowed]:
            raise ConfigError(
                f"{source}: unknown key {unknown[0]!r}; allowed are {', '.join(allowed)}"
            )
        settings = dict(data)
        name = settings.pop("preset", "raw")
        if not isinstance(name, str) or name not in PRESETS:
            raise ConfigError(f"{source}: preset {name!r} is not one of {', '.join(PRESETS)}")
        return cls(**(PRESETS[name] | settings), source=source)

    @classmethod
    def from_file(cls, path: str | Path) -> Preprocess:
        """Read a .toml or .json file; its key "labels", if any, is left to `find_labels`."""
        data = read_config(path)
        data.pop("labels", None)
        return cls.from_dict(data, f"file {Path(path).name}")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-able data, which `from_dict` takes back; no `source`."""
        data = asdict(self)
        del data["source"]
        return {key: list(v) if isinstance(v, tuple) else v for key, v in data.items()}

    def target_size(self, spec: InputSpec) -> tuple[int, int]:
        """Return (height, width) that the model gets; ConfigError if file and graph disagree."""
        graph = (spec.height, spec.width)
        size = self.size or graph
        if any(n > 0 and n != m for n, m in zip(graph, size, strict=True)):
            raise ConfigError(f"{self.source}: size {size} is not the model's {graph}: drop it")
        if min(size) <= 0:
            raise ConfigError(f"the model leaves its input size open: set size (in {self.source})")
        return size

    def affine(self, spec: InputSpec) -> tuple[np.ndarray, np.ndarray]:
        """Return (a, b), float64 [C] or [1], of x = a * pixel + b in the model's channel order.

        Raises:
            ConfigError: the settings do not fit the model's channels or integer type.
        """
        self._check_channels(spec)
        mean, std = np.array(self.mean), np.array(self.std)
        a, b = np.broadcast_arrays(self.scale / std, -mean / std)
        if spec.dtype.kind in "iu":
            self._check_levels(spec, a, b)
        return a, b

    def _check_channels(self, spec: InputSpec) -> None:
        if not spec.is_picture:
            raise ConfigError(
                f"input {spec.name!r} of shape {spec.shape} takes no picture (1 or 3 channels, "
                "height, width): feed it a .npy file"
            )
        if self.channels == "L" and spec.channels != 1:
            raise ConfigError(
                f"{self.source}: channels = 'L', but input {spec.name!r} has {spec.channels}: "
                "say 'RGB' or 'BGR'"
            )
        for key in ("mean", "std"):
            if len(getattr(self, key)) not in (1, spec.channels):
                raise ConfigError(
                    f"{self.source}: {key} has {len(getattr(self, key))} values, but input "
                    f"{spec.name!r} has {spec.channels} channel(s): give 1 or {spec.channels}"
                )

    def _check_levels(self, spec: InputSpec, a: np.ndarray, b: np.ndarray) -> None:
        """Refuse what would be crushed or clipped on the way into an integer type."""
        low, high = np.minimum(b, 255 * a + b).min(), np.maximum(b, 255 * a + b).max()
        limit = np.iinfo(spec.dtype)
        if np.abs(255 * a).min() < MIN_LEVELS or low < limit.min - 1 or high > limit.max + 1:
            hint = ", mean = 128" if spec.dtype == np.int8 else ""
            raise ConfigError(
                f"{self.source}: pixels would become {low:.4g}..{high:.4g}, but input "
                f"{spec.name!r} is {spec.dtype}: use preset raw{hint}"
            )


def as_preprocess(given: Preprocess | str | Path | Mapping[str, Any]) -> Preprocess:
    """Return settings given as such, as a preset's name, a .toml or .json file, or plain data.

    Raises:
        ConfigError: it is none of these, or what it holds is broken.
    """
    if isinstance(given, Preprocess):
        return given
    if isinstance(given, Mapping):
        return Preprocess.from_dict(given, "given")
    if isinstance(given, str) and not given.endswith((".toml", ".json")):
        return Preprocess.preset(given)
    if isinstance(given, str | Path):
        return Preprocess.from_file(given)
    raise ConfigError(f"preprocess {given!r} is not a preset, a file, a mapping or a Preprocess")


def read_config(path: str | Path) -> dict[str, Any]:
    """Read a .toml or .json file into a dict; ConfigError when that fails."""
    path = Path(path)
    parse: Callable[[str], Any] = tomllib.loads if path.suffix == ".toml" else json.loads
    if path.suffix not in (".toml", ".json"):
        raise ConfigError(f"{path}: settings are read from .toml or .json files")
    try:
        data = parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # broken syntax, not UTF-8, nested too deep
        raise ConfigError(f"{path}: not valid {path.suffix[1:].upper()}: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: holds {type(data).__name__}, not keys with values")
    return data

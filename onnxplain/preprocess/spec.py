"""What the graph says about an input: name, shape, type and where its axes lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from onnxplain.errors import ConfigError


@dataclass(frozen=True)
class InputSpec:
    """One input of a model, as its graph declares it.

    Attributes:
        name: the input's name.
        shape: without the batch axis: (C, H, W), (H, W, C), or (H, W) for one grey channel. A
            dimension that the graph leaves open is -1. Other ranks take arrays, not pictures.
        dtype: what the model wants to be fed.
        layout: which of the two orders `shape` has.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    layout: Literal["NCHW", "NHWC"] = "NCHW"

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "dtype", np.dtype(self.dtype))

    @property
    def is_picture(self) -> bool:
        """Whether a picture can be fed: two or three axes, one or three channels."""
        return len(self.shape) == 2 or (len(self.shape) == 3 and self._dims[0] in (1, 3))

    @property
    def channels(self) -> int:
        """Number of colour channels, 1 for (H, W)."""
        return self._dims[0]

    @property
    def height(self) -> int:
        """Rows, -1 when the graph leaves them open."""
        return self._dims[1]

    @property
    def width(self) -> int:
        """Columns, -1 when the graph leaves them open."""
        return self._dims[2]

    @property
    def channel_axis(self) -> int | None:
        """The axis of the colours in a batch [N, *shape]; None for (H, W)."""
        if len(self.shape) == 2:
            return None
        return 1 if self.layout == "NCHW" else 3

    @property
    def _dims(self) -> tuple[int, int, int]:
        if len(self.shape) == 2:
            return 1, *self.shape
        if len(self.shape) != 3:
            raise ConfigError(f"input {self.name!r} of shape {self.shape} is not a picture")
        c, h, w = self.shape if self.layout == "NCHW" else (self.shape[2], *self.shape[:2])
        return c, h, w

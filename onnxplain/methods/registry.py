"""Every explanation by name, for the command line and anything that loops over methods."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import get_args

from onnxplain.errors import ConfigError
from onnxplain.graph.layers import Layer
from onnxplain.methods.averaged import integrated_gradients, smooth_grad
from onnxplain.methods.cam import CAMS, cam
from onnxplain.methods.common import Images
from onnxplain.methods.gradient import gradient, guided_backprop
from onnxplain.methods.saliency import Kind, saliency
from onnxplain.model import Model
from onnxplain.results import Explanation

Method = Callable[..., Explanation]

METHODS: dict[str, Method] = {
    "gradient": gradient,
    **{kind: partial(saliency, kind=kind) for kind in get_args(Kind)},
    "smooth_grad": smooth_grad,
    "integrated_gradients": integrated_gradients,
    "guided_backprop": guided_backprop,
    **{kind: partial(cam, kind=kind) for kind in CAMS},
}


def method_name(name: str) -> str:
    """Return the key of `METHODS` for a name with dashes or underscores; raises ConfigError."""
    key = name.strip().lower().replace("-", "_")
    if key not in METHODS:
        known = ", ".join(k.replace("_", "-") for k in METHODS)
        raise ConfigError(f"method {name!r} is unknown; choose from {known}")
    return key


def explain(
    model: Model,
    x: Images,
    method: str,
    target: object = None,
    layer: Layer | str | None = None,
    grid: tuple[int, int] | None = None,
) -> Explanation:
    """Run a method by name; `layer` and `grid` are used by class activation maps only.

    Raises what the method raises, and ConfigError for an unknown name.
    """
    key = method_name(method)
    if key in CAMS:
        return METHODS[key](model, x, target, layer=layer, grid=grid)
    return METHODS[key](model, x, target)

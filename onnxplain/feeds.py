"""What a model is fed: arrays by input name, checked against what the graph says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np

from onnxplain.errors import InputError
from onnxplain.executor import Array
from onnxplain.graph.graph import Input
from onnxplain.preprocess import InputSpec, check_array

Feeds = dict[str, Array]


def check_feeds(given: Mapping[str, Array], inputs: Sequence[Input], model: str) -> Feeds:
    """Return `given` as the inputs want it, a missing image axis added.

    Raises InputError for an unknown or missing input, a wrong shape or type, NaN, no image at all, or
    inputs with different numbers of images; `model` names the model in messages.
    """
    names = [i.name for i in inputs]
    for name in given:
        if name not in names:
            raise InputError(f"{model} has no input {name!r}; it has {', '.join(names)}")
    missing = [name for name in names if name not in given]
    if missing:
        raise InputError(
            f"{model} has {len(inputs)} inputs ({', '.join(names)}): give a mapping name -> array; "
            f"{', '.join(missing)} is missing"
        )
    feeds = {i.name: _checked(np.asarray(given[i.name]), i) for i in inputs}
    counts = {len(feeds[i.name]) for i in inputs if i.per_image}
    if len(counts) > 1:
        raise InputError(f"the inputs hold different numbers of images: {sorted(counts)}")
    return feeds


def choose_rows(feeds: Feeds, chosen: slice | Sequence[int], inputs: Iterable[Input]) -> Feeds:
    """Return the feeds of some of the images; settings that all images share stay as they are."""
    per_image = {i.name for i in inputs if i.per_image}
    return {k: v[chosen] if k in per_image else v for k, v in feeds.items()}


@lru_cache(maxsize=256)  # asked for every image
def input_spec(source: Input, keep_open: bool) -> InputSpec:
    """Describe an input for the pre-processing; -1 stands for a size that the file leaves open.

    With `keep_open` False, the size that was taken instead is given.
    """
    sizes = tuple(int(s) for s in source.shape[1:])
    if keep_open and source.open_size and source.axes is not None:
        sizes = tuple(-1 if a in "HW" else s for a, s in zip(source.axes[1:], sizes, strict=True))
    layout: Literal["NCHW", "NHWC"] = "NHWC" if source.axes == "NHWC" else "NCHW"
    return InputSpec(source.name, sizes, source.dtype, layout)


def _checked(x: Array, wanted: Input) -> Array:
    if wanted.per_image:
        return check_array(x, input_spec(wanted, keep_open=True))
    if x.shape != wanted.shape:
        raise InputError(f"input {wanted.name!r}: has shape {x.shape}, wants {wanted.shape}")
    if x.dtype.kind != wanted.dtype.kind:
        raise InputError(f"input {wanted.name!r}: holds {x.dtype}, wants {wanted.dtype}")
    return x.astype(wanted.dtype, copy=False)

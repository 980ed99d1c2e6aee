"""The backward rules by family of ops; importing this package registers them in `VJP`."""

from onnxplain.backward.rules import (
    activation,
    arithmetic,
    conv,
    matmul,
    norm,
    pad,
    pool,
    quantize,
    reduce,
    resize,
    sample,
    shape,
)

__all__ = [
    "activation",
    "arithmetic",
    "conv",
    "matmul",
    "norm",
    "pad",
    "pool",
    "quantize",
    "reduce",
    "resize",
    "sample",
    "shape",
]

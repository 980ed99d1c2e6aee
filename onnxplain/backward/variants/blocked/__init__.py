"""The gradient once more, in nodes that onnxruntime's CPU computes without leaving its blocked layout.

onnxruntime keeps activations in blocks of 8 or 16 channels (NCHWc) through Conv, pooling, Concat, nearest
Resize, HardSigmoid, Sigmoid, and Add and Mul of equal shapes; around anything else it writes them out in
order and back, which takes as long as the op. The numbers are those of `VJP`, whose rules serve wherever a
tensor is not float32 [N, C, H, W]. For graphs in which each image has one seed: shapes must agree. What
comes from another graph, a residual, has left the blocks, and is lifted into them once. What each of these
rules gains is in docs/benchmarks.md.
"""

from onnxplain.backward.variants.blocked import masks, products, quantised, windows
from onnxplain.backward.variants.blocked.table import BLOCKED

__all__ = ["BLOCKED", "masks", "products", "quantised", "windows"]

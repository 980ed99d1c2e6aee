"""Small nets as onnx.parser text with seeded random weights, and the same nets in torch (float64)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from onnx import numpy_helper, parser

import onnxplain as ox
from onnxplain.executor import Session

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]


def build(head: str, body: str, opset: int = 18, seed: int = 0, **weights: Any) -> onnx.ModelProto:
    """Parse `head { body }`; each weight is an array, or a shape to draw from a normal distribution."""
    text = f'<ir_version: 10, opset_import: ["": {opset}]> net {head} {{ {body} }}'
    proto = parser.parse_model(text)
    rng = np.random.default_rng(seed)
    for name, value in weights.items():
        array = value if isinstance(value, np.ndarray) else drawn(rng, value)
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    return proto


def drawn(rng: np.random.Generator, shape: Shape) -> Array:
    """Draw weights whose products keep the size of what they multiply."""
    return (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def load(proto: onnx.ModelProto, **settings: Any) -> ox.Model:
    """Load on one thread of the CPU: what sums in one order gives the same bits every time."""
    return ox.load(proto, device="cpu", threads=1, **settings)


def images(count: int = 3, shape: Shape = (3, 8, 8), seed: int = 1) -> Array:
    """Return random images [count, *shape], between about -2 and 2."""
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


# --- a net of two convolutions and two dense layers ---------------------------------------------------
BODY = """
    c1 = Conv<pads = [1, 1, 1, 1]>(x, w1, b1)
    a1 = Relu(c1)
    c2 = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(a1, w2, b2)
    features = Relu(c2)
    pooled = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(features)
    flat = Flatten(pooled)
    hidden = Gemm<transB = 1>(flat, w3, b3)
    a3 = Relu(hidden)
    z = Gemm<transB = 1>(a3, w4, b4)
    y = Softmax<axis = 1>(z)
"""
CHANNELS = 5
CLASSES = 4
HEAD = "(float[N, 3, 8, 8] x) => (float[N, 4] y)"
WEIGHTS: dict[str, Shape] = {
    "w1": (4, 3, 3, 3), "b1": (4,), "w2": (CHANNELS, 4, 3, 3), "b2": (CHANNELS,),
    "w3": (6, 20), "b3": (6,), "w4": (CLASSES, 6), "b4": (CLASSES,),
}  # fmt: skip


def conv_net(head: str = HEAD, body: str = BODY, **changes: Any) -> onnx.ModelProto:
    """Return the net: x [N, 3, 8, 8] -> features [N, 5, 4, 4] -> logits z [N, 4] -> softmax y."""
    return build(head, body, **(WEIGHTS | changes))


def nhwc(body: str) -> str:
    """Return a body whose input x and features are [N, H, W, C], as TensorFlow's exporters write it."""
    first, rest = "t = Transpose<perm = [0, 3, 1, 2]>(x)", body.replace("(x,", "(t,")
    maps = "c2t = Transpose<perm = [0, 2, 3, 1]>(c2) features = Relu(c2t)"
    back = "back = Transpose<perm = [0, 3, 1, 2]>(features)"
    rest = rest.replace("features = Relu(c2)", f"{maps} {back}")
    return first + rest.replace("strides = [2, 2]>(features)", "strides = [2, 2]>(back)")


def nhwc_net() -> onnx.ModelProto:
    """Return the twin of `conv_net` that takes x [N, 8, 8, 3] and has features [N, 4, 4, 5]."""
    return conv_net("(float[N, 8, 8, 3] x) => (float[N, 4] y)", nhwc(BODY))


def linear_net(gradients: Array, bias: Array | None = None) -> onnx.ModelProto:
    """Return x [N, C, H, W] -> z [N, classes] = <gradients, x> + bias, gradients [classes, C, H, W]."""
    classes, *shape = gradients.shape
    head = f"(float[N, {', '.join(map(str, shape))}] x) => (float[N, {classes}] z)"
    weight = gradients.reshape(classes, -1).astype(np.float32)
    body = "flat = Flatten(x) z = Gemm<transB = 1>(flat, w, b)"
    b = np.zeros(classes, np.float32) if bias is None else bias.astype(np.float32)
    return build(head, body, w=weight, b=b)


# --- in torch ------------------------------------------------------------------------------------------
def weights_of(proto: onnx.ModelProto) -> dict[str, torch.Tensor]:
    """Return the initializers in double."""
    named = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    return {k: torch.tensor(v, dtype=torch.float64) for k, v in named.items()}


def double(x: Array) -> torch.Tensor:
    """Return x as a tensor to differentiate."""
    return torch.tensor(x, dtype=torch.float64, requires_grad=True)


def torch_features(w: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Return `features` of `conv_net`."""
    a1 = F.relu(F.conv2d(x, w["w1"], w["b1"], padding=1))
    return F.relu(F.conv2d(a1, w["w2"], w["b2"], padding=1, stride=2))


def torch_head(w: dict[str, torch.Tensor], features: torch.Tensor) -> torch.Tensor:
    """Return the logits of `conv_net` from `features`."""
    flat = F.max_pool2d(features, 2).flatten(1)
    return F.linear(F.relu(F.linear(flat, w["w3"], w["b3"])), w["w4"], w["b4"])


def torch_logits(w: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Return the logits of `conv_net`."""
    return torch_head(w, torch_features(w, x))


def jacobian(proto: onnx.ModelProto, x: Array) -> Array:
    """Return d logit_c / d x of every class of `conv_net`, [C, N, 3, 8, 8], float64."""
    at = double(x)
    logits = torch_logits(weights_of(proto), at)
    one_by_one = [
        torch.autograd.grad(logits[:, c].sum(), at, retain_graph=True)[0]
        for c in range(logits.shape[1])
    ]
    return torch.stack(one_by_one).numpy()


# --- what runs -----------------------------------------------------------------------------------------
@contextmanager
def counted_runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Record how many rows each session run was fed."""
    rows: list[int] = []
    run = Session.run

    def recording(self: Session, feeds: Any, *args: Any, **kwargs: Any) -> Any:
        values = [v for k, v in feeds.items() if k in self.inputs]
        shapes = [v.shape() if isinstance(v, ort.OrtValue) else np.shape(v) for v in values]
        rows.append(max(s[0] for s in shapes))
        return run(self, feeds, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "run", recording)
        yield rows

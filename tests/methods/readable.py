"""What tests of readouts and layer predictions share: a net whose last layers are known, and references."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

import onnxplain as ox
from tests import nets

Array = np.ndarray[Any, Any]
K, CLASSES = 5, 4
BODY = """
    c1 = Conv<pads = [1, 1, 1, 1]>(x, w1, b1)
    a1 = Relu(c1)
    c2 = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(a1, w2, b2)
    features = Relu(c2)
    pooled = GlobalAveragePool(features)
    flat = Flatten(pooled)
    z = Gemm<transB = 1>(flat, w, b)
    y = Softmax<axis = 1>(z)
"""
WEIGHTS: dict[str, Any] = {
    "w1": (4, 3, 3, 3), "b1": (4,), "w2": (K, 4, 3, 3), "b2": (K,), "w": (CLASSES, K), "b": (CLASSES,),
}  # fmt: skip


def gap_net(
    head: str = "(float[N, 3, 8, 8] x) => (float[N, 4] y)", body: str = BODY, **changes: Any
) -> onnx.ModelProto:
    """Return x -> a1 [N, 4, 8, 8] -> features [N, 5, 4, 4] -> mean -> logits z [N, 4] -> softmax y."""
    return nets.build(head, body, **(WEIGHTS | changes))


def nhwc_gap_net() -> onnx.ModelProto:
    """Return the twin of `gap_net` that takes x [N, 8, 8, 3] and has features [N, 4, 4, 5]."""
    body = nets.nhwc(BODY).replace("GlobalAveragePool(features)", "GlobalAveragePool(back)")
    return gap_net("(float[N, 8, 8, 3] x) => (float[N, 4] y)", body)


def values(model: ox.Model, x: Array, *names: str) -> list[Array]:
    """Return tensors of a model in float64."""
    found = model.values({model.graph.source.name: x}, names)
    return [found[name].astype(np.float64) for name in names]


def ridge_regression(phi: Array, z: Array, ridge: float) -> tuple[Array, Array]:
    """W = (P'P + ridge tr(P'P)/K I)^-1 P'Z on centred P and Z, and b, by NumPy's solver."""
    p, dz = phi - phi.mean(0), z - z.mean(0)
    gram = p.T @ p
    w = np.linalg.solve(gram + ridge * np.trace(gram) / len(gram) * np.eye(len(gram)), p.T @ dz)
    return w, z.mean(0) - phi.mean(0) @ w


def dual_regression(phi: Array, z: Array, ridge: float) -> tuple[Array, Array]:
    """W = P' (P P' + ridge tr(P'P)/K I)^-1 Z: the same, by a system of the size of the images."""
    p, dz = phi - phi.mean(0), z - z.mean(0)
    lam = ridge * (p * p).sum() / p.shape[1]
    w = p.T @ np.linalg.solve(p @ p.T + lam * np.eye(len(p)), dz)
    return w, z.mean(0) - phi.mean(0) @ w

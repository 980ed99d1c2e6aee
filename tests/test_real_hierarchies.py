"""Decompositions of real models: conservation, and the same numbers as one whole backward pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxplain as ox
from onnxplain import bundled
from tests.real_models import REAL_MODELS, samples

FILES = (
    "imagenet/squeezenet1_1_torchvision.onnx",
    "imagenet/mobilenet_v2_torchvision_float.onnx",
    "cifar10/resnet20.onnx",
    "cifar10/resnet56_dynamo.onnx",
    "bundled",
)


def path_of(file: str, shared: Path) -> Path:
    return bundled.model_path() if file == "bundled" else REAL_MODELS[file].path(shared)


def subject(file: str, shared: Path) -> tuple[ox.Model, np.ndarray]:
    row = REAL_MODELS["cifar10/resnet20.onnx" if file == "bundled" else file]
    pre = None if file == "bundled" else row.pre
    model = ox.load(path_of(file, shared), device="cpu", preprocess=pre)
    pictures, _ = samples(row.data, shared, 3)
    return model, model.read(pictures[-1:])


def without_biases(path: Path) -> onnx.ModelProto:
    """Return the model with the biases of Conv and Gemm set to zero; nothing else may add a constant."""
    proto = onnx.load(path)
    weights = {t.name: t for t in proto.graph.initializer}
    count = 0
    for node in proto.graph.node:
        assert node.op_type not in ("Add", "Sub") or not set(node.input) & set(weights)
        if node.op_type in ("Conv", "Gemm") and len(node.input) > 2:
            tensor = weights[node.input[2]]
            zeros = np.zeros_like(numpy_helper.to_array(tensor))
            tensor.CopyFrom(numpy_helper.from_array(zeros, tensor.name))
            count += 1
    assert count > 5
    return proto


@pytest.mark.parametrize("file", FILES)
def test_the_levels_agree_with_one_whole_backward_pass(file: str, shared: Path) -> None:
    model, x = subject(file, shared)
    tree = ox.decompose(model, x, seed="root", depth=3, pixels=False)
    assert all(tree.level(i) for i in range(4)), "four levels"
    name = model.graph.source.name
    for level, layer in enumerate(tree.layers, 1):
        g = ox.gradient(model, x, wrt=layer).values
        a = model.values({name: x}, [layer])[layer]
        direct = (g * a).sum((0, 2, 3), dtype=np.float64)
        for node in tree.level(level):
            tolerance = 1e-4 * np.abs(direct).max()
            assert node.decision == pytest.approx(direct[node.channel], rel=1e-4, abs=tolerance)
        if level == 1:
            assert tree.root.decision - direct.sum() == pytest.approx(
                tree.root.residual, rel=1e-4, abs=1e-4 * abs(tree.root.decision)
            )


@pytest.mark.parametrize("seed", ["path", "root", "max", "sum"])
@pytest.mark.parametrize("file", FILES)
def test_without_biases_nothing_is_lost(file: str, seed: str, shared: Path) -> None:
    """Without biases the net is linear around every image, so contributions are complete at every node.

    The image is scaled down, which changes no ReLU, so that no ReLU6 saturates.
    """
    given, x = subject(file, shared)
    model = ox.load(
        without_biases(path_of(file, shared)), device="cpu", preprocess=given.preprocess
    )
    tree = ox.decompose(model, (0.01 * x).astype(x.dtype), seed=seed, depth=3, pixels=False)
    expanded = [n for n in tree if n.residual is not None]
    assert len(expanded) >= 5
    for node in expanded:
        assert abs(node.residual or 0) <= 1e-4 * abs(node.decision)


@pytest.mark.parametrize("file", FILES[2:])
def test_pixels_of_all_leaves_explain_the_score_but_for_what_is_left_out(
    file: str, shared: Path
) -> None:
    """Summed over all channels the leaves' pixel evidence is gradient x input of the score."""
    model, x = subject(file, shared)
    layer = model.graph.levels[0]
    tree = ox.decompose(
        model, x, layers=[layer], top_k=10_000, min_share=0.0, min_root_share=0.0,
        max_nodes=10_000, inhibitors=0,
    )  # fmt: skip
    g = ox.gradient(model, x, wrt=layer).values
    seed = np.where(
        (g * model.values({model.graph.source.name: x}, [layer.name])[layer.name]).sum(
            (2, 3), keepdims=True
        )
        > 0,
        g,
        0,
    )
    program = model.program((layer.name,), (model.graph.source.name,))
    found = program.forward({model.graph.source.name: x}).backward({layer.name: seed})
    expected = (found[model.graph.source.name] * x).sum(1)[0]
    total = np.sum([n.pixels for n in tree.leaves], axis=0)
    np.testing.assert_allclose(total, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())

"""The rest of a network with channels replaced, against the original file run from that layer on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import onnxplain as ox
from onnxplain.errors import LayerError
from tests import nets
from tests.real_models import REAL_MODELS, samples
from tests.tokens import vit

BUNDLED = Path(__file__).resolve().parent.parent / "models" / "vgg_cifar10.onnx"


def activation(model: ox.Model, x: np.ndarray, layer: str) -> np.ndarray:
    return model.values({model.graph.source.name: x}, (layer,))[layer]


def test_any_mixture_as_torch_has_it() -> None:
    proto, x = nets.conv_net(), nets.images(1)
    model, weights = nets.load(proto), nets.weights_of(proto)
    rng = np.random.default_rng(0)
    keep, base = rng.random((70, nets.CHANNELS)), rng.normal(size=nets.CHANNELS)
    found = model.ablation(model.layer("features")).run(
        activation(model, x, "features"), keep, base
    )
    a = nets.torch_features(weights, nets.double(x))
    on, fill = (torch.tensor(t)[..., None, None] for t in (keep, base[None]))
    expected = nets.torch_head(weights, a * on + fill * (1 - on)).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("proto", [nets.conv_net(), nets.nhwc_net()], ids=["NCHW", "NHWC"])
def test_kept_whole_it_is_the_network_itself(proto: onnx.ModelProto) -> None:
    model = nets.load(proto)
    x = nets.images(1) if model.graph.source.axes == "NCHW" else nets.images(1, (8, 8, 3))
    for layer in model.graph.features:
        ones = np.ones((2, layer.channels or 0))
        found = model.ablation(layer).run(activation(model, x, layer.name), ones)
        np.testing.assert_array_equal(found[0], found[1])
        np.testing.assert_allclose(found[:1], model.predict(x).logits, rtol=1e-5, atol=1e-6)


def test_channels_last_as_channels_first() -> None:
    x = nets.images(1)
    one, other = nets.load(nets.conv_net()), nets.load(nets.nhwc_net())
    keep = ~np.eye(nets.CHANNELS, dtype=bool)
    found = [
        m.ablation(m.layer("features")).run(activation(m, each, "features"), keep)
        for m, each in ((one, x), (other, np.ascontiguousarray(x.transpose(0, 2, 3, 1))))
    ]
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-6)


def test_tokens() -> None:
    model = nets.load(vit())
    x = nets.images(1, tuple(model.graph.source.shape[1:]))  # type: ignore[arg-type]
    layer = next(la for la in model.layers if la.cut and la.axes == "NTC")
    keep = ~np.eye(layer.channels or 0, dtype=bool)
    a = activation(model, x, layer.name)
    found = model.ablation(layer).run(a, keep, feeds={"x": x})
    program = model.program((model.graph.logit.tensor,), (layer.name,))
    for row, logits in zip(keep, found, strict=True):
        alone = program.tail({layer.name: (a * row).astype(a.dtype), "x": x})[
            model.graph.logit.tensor
        ]
        np.testing.assert_allclose(logits, alone[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layer", ["relu1_1", "relu2_2", "relu3_2", "relu_fc1"])
def test_exactly_as_with_zero_weights_in_the_file(layer: str) -> None:
    """Filter by filter: the same logits as a copy of the ONNX file whose filter has no weights."""
    import onnxruntime as ort

    model = ox.load(BUNDLED, device="cpu", threads=1)
    x = model.read([BUNDLED.parent / "samples" / "cat.jpg"])
    chosen = model.layer(layer)
    count = chosen.channels or 0
    found = model.ablation(chosen).run(activation(model, x, layer), ~np.eye(count, dtype=bool))
    original = onnx.load(BUNDLED)
    makers = {y: n for n in original.graph.node for y in n.output}
    weighted = makers[makers[layer].input[0]]
    assert weighted.op_type in ("Conv", "Gemm")
    arrays = {t.name: t for t in original.graph.initializer}
    for k in range(count):
        proto = onnx.ModelProto()
        proto.CopyFrom(original)
        for tensor in proto.graph.initializer:
            if tensor.name in weighted.input[1:]:
                values = onnx.numpy_helper.to_array(arrays[tensor.name]).copy()
                values[k] = 0
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        session = ort.InferenceSession(proto.SerializeToString())
        (expected,) = session.run([model.graph.logit.output], {session.get_inputs()[0].name: x})
        np.testing.assert_allclose(found[k : k + 1], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(REAL_MODELS))
def test_real_models_are_themselves_with_all_channels(name: str, shared: Path) -> None:
    row = REAL_MODELS[name]
    model = ox.load(row.path(shared), device="cpu", preprocess=row.pre)
    if model.classes is None or row.data == "none":
        pytest.skip("it does not classify, or there are no pictures for it")
    pictures, _ = samples(row.data, shared, 1)
    x = model.read(pictures)
    layers = model.graph.features
    logit = model.graph.logit.tensor
    for layer in (layers[0], layers[len(layers) // 2], layers[-1]):
        values = model.values({model.graph.source.name: x}, (layer.name, logit))
        ones = np.ones((3, layer.channels or 0))
        rest = model.ablation(layer)
        found = rest.run(values[layer.name], ones, feeds={model.graph.source.name: x})
        scale = np.abs(values[logit]).max()
        # int8 and float16 kernels round otherwise when fused otherwise
        close = 1e-5 if values[layer.name].dtype == np.float32 and "int8" not in name else 0.05
        np.testing.assert_allclose(found[:1], values[logit], atol=max(scale * close, 1e-6))


def test_what_is_no_cut_or_has_no_channels() -> None:
    body = """a = Relu(x) b = Neg(a) c = Add(a, b) f = Flatten(c) z = Gemm<transB = 1>(f, w)"""
    model = nets.load(nets.build("(float[N, 3, 2, 2] x) => (float[N, 2] z)", body, w=(2, 12)))
    with pytest.raises(LayerError, match="'b' is not a cut"):
        model.ablation(model.layer("b"))
    body = """t = Transpose<perm = [0, 2, 3, 1]>(x) r = Reshape(t, s) m = Relu(r) f = Flatten(m)
        z = MatMul(f, w)"""
    proto = nets.build(
        "(float[N, 3, 4, 4] x) => (float[N, 2] z)", body, s=np.array([-1, 2, 2, 12]), w=(48, 2)
    )
    model = nets.load(proto)
    unclear = [la for la in model.layers if la.channel_axis is None]
    assert unclear, "a layer whose axes are mixed has no channels"
    with pytest.raises(LayerError, match="has no channels to keep or replace"):
        model.ablation(unclear[0])

"""An exported explanation against the API: every method, every target, in two independent runtimes."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

import onnxplain as ox
from onnxplain.embed.question import EXPORTED
from onnxplain.errors import (
    ConfigError,
    InputError,
    LayerError,
    ModelError,
    OnnxplainError,
    TargetError,
)
from onnxplain.methods.registry import METHODS, explain
from tests import nets, tokens
from tests.embed.plain import assert_same_bits, error, run

Array = np.ndarray[Any, Any]
NEW = {"explanation", "heatmap", "explained_class"}


@cache
def model() -> ox.Model:
    return nets.load(nets.conv_net())


def exported(path: Path, method: str, **asked: Any) -> tuple[ox.Model, onnx.ModelProto]:
    """Export `conv_net`; return it and the file, which the strict checker has passed."""
    ox.export(model(), method, path / "explained.onnx", **asked)
    proto = onnx.load(path / "explained.onnx")
    onnx.checker.check_model(proto, full_check=True)
    return model(), proto


# --- the same map everywhere ---------------------------------------------------------------------------
@pytest.mark.parametrize("method", EXPORTED)
def test_a_bare_session_gives_what_the_api_gives(method: str, tmp_path: Path) -> None:
    m, proto = exported(tmp_path, method)
    x = nets.images(5)
    found, expected = run(proto, {"x": x}), explain(m, x, method)
    assert error(found["explanation"], expected.values) < 1e-5
    np.testing.assert_allclose(found["heatmap"], expected.heatmap(), atol=1e-5)
    assert found["explained_class"].tolist() == expected.classes.tolist()
    assert_same_bits(found, run(nets.conv_net(), {"x": x}))


@pytest.mark.parametrize("method", EXPORTED)
def test_onnx_s_reference_gives_it_too(method: str, tmp_path: Path) -> None:
    m, proto = exported(tmp_path, method)
    x = nets.images(2)
    evaluator = ReferenceEvaluator(proto)
    with np.errstate(all="ignore"):  # what a Where leaves out may be 0 / 0
        values = evaluator.run(None, {"x": x})
    found = dict(zip(evaluator.output_names, values, strict=True))
    expected = explain(m, x, method)
    assert error(found["explanation"], expected.values) < 1e-4
    np.testing.assert_allclose(found["heatmap"], expected.heatmap(), atol=1e-4)
    assert found["explained_class"].tolist() == expected.classes.tolist()


def test_every_method_is_exported_or_refused_by_name(tmp_path: Path) -> None:
    for method in set(METHODS) - set(EXPORTED):
        with pytest.raises(ConfigError, match=f"{method} runs the model many times .* lift-cam"):
            ox.export(model(), method, tmp_path / "explained.onnx")
    assert not list(tmp_path.iterdir())
    assert set(EXPORTED) == {
        "lift_cam", "grad_cam", "grad_cam_plusplus", "xgrad_cam", "hires_cam", "layer_cam", "gradient",
        "guided_backprop", "absolute", "positive", "negative",
    }  # fmt: skip


def test_only_standard_operators_are_written(tmp_path: Path) -> None:
    for method in EXPORTED:
        _, proto = exported(tmp_path, method)
        assert {node.domain for node in proto.graph.node} == {""}
        assert [(o.domain, o.version) for o in proto.opset_import] == [("", 18)]


@pytest.mark.parametrize("target", [None, 1, "input"])
def test_a_class_reads_a_row_of_the_weights_instead_of_multiplying_with_zeros(
    target: Any, tmp_path: Path
) -> None:
    _, proto = exported(tmp_path, "gradient", target=target)
    readers = [(n.op_type, "a3" in n.input[0]) for n in proto.graph.node if "w4" in n.input]
    assert ("Gather", False) in readers and ("Gemm", False) not in readers
    assert "OneHot" not in {n.op_type for n in proto.graph.node}


# --- the original stays --------------------------------------------------------------------------------
def test_the_file_s_own_nodes_are_untouched_and_come_first(tmp_path: Path) -> None:
    original = nets.conv_net()
    for method in EXPORTED:
        _, proto = exported(tmp_path, method)
        kept = proto.graph.node[: len(original.graph.node)]
        assert [(n.op_type, n.input, n.output, n.attribute) for n in kept] == [
            (n.op_type, n.input, n.output, n.attribute) for n in original.graph.node
        ]
        new = {y for n in proto.graph.node[len(kept) :] for y in n.output}
        assert all(y in NEW or y.startswith("explanation/") for y in new)


def test_new_nodes_leave_at_one_tensor_each_through_a_copy(tmp_path: Path) -> None:
    """Else onnxruntime would merge them with the file's own and run those in other kernels."""
    own = {y for n in nets.conv_net().graph.node for y in n.output} | {"x"}
    for method, target, leaves in (
        ("grad_cam", None, {"features", "z"}),
        ("gradient", None, {"x", "z"}),
        ("grad_cam", 1, {"features"}),
    ):
        _, proto = exported(tmp_path, method, target=target)
        new = [n for n in proto.graph.node if not set(n.output) <= own]
        reading = [n for n in new if set(n.input) & own]
        assert {x for n in reading for x in n.input} == leaves
        assert {n.op_type for n in reading} == {"Concat"} and len(reading) == len(leaves)


def test_weights_are_shared(tmp_path: Path) -> None:
    """The file's own initializers serve the copy of the rest of the network, too."""
    _, proto = exported(tmp_path, "grad_cam")
    names = [t.name for t in proto.graph.initializer]
    assert len(names) == len(set(names)) and set(nets.WEIGHTS) <= set(names)
    readers = [n.name for n in proto.graph.node if "w3" in n.input]
    assert len(readers) > 1


def test_weights_listed_as_inputs_stay_variable(tmp_path: Path) -> None:
    """onnxruntime folds constants only: declared otherwise, the outputs would change in their last bits."""
    proto = nets.conv_net()
    shapes = {t.name: t.dims for t in proto.graph.initializer}
    for name, dims in shapes.items():
        proto.graph.input.append(onnx.helper.make_tensor_value_info(name, 1, dims))
    ox.export(nets.load(proto), "lift_cam", tmp_path / "e.onnx", layer="features")
    written = onnx.load(tmp_path / "e.onnx")
    assert {i.name for i in written.graph.input} == {"x", *shapes}
    x = nets.images()
    found = run(written, {"x": x})
    assert_same_bits(found, run(proto, {"x": x}))
    assert error(found["explanation"], ox.cam(model(), x).values) < 1e-5


def test_declared_shapes_and_metadata_stay(tmp_path: Path) -> None:
    proto = nets.conv_net()
    proto = onnx.shape_inference.infer_shapes(proto)
    onnx.helper.set_model_props(proto, {"author": "nobody"})
    ox.export(nets.load(proto), "grad_cam", tmp_path / "e.onnx")
    written = onnx.load(tmp_path / "e.onnx")
    assert {v.name for v in proto.graph.value_info} <= {v.name for v in written.graph.value_info}
    assert {p.key for p in written.metadata_props} == {"author", "onnxplain.explanation"}


# --- targets -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "target",
    [0, 3, -1, ox.Target.contrast(1, 2), ox.Target.contrast(1, "mean"), ox.Target(2, weights=-1.0)],
    ids=str,
)
@pytest.mark.parametrize("method", ["lift_cam", "positive"])
def test_targets_that_stay_the_same(method: str, target: Any, tmp_path: Path) -> None:
    m, proto = exported(tmp_path, method, target=target)
    x = nets.images(3)
    found = run(proto, {"x": x})
    assert error(found["explanation"], explain(m, x, method, target).values) < 1e-5
    assert "explained_class" not in found


@pytest.mark.parametrize("method", ["lift_cam", "gradient"])
def test_classes_given_with_the_images(method: str, tmp_path: Path) -> None:
    m, proto = exported(tmp_path, method, target="input")
    x, classes = nets.images(3), np.array([2, 0, -1])
    found = run(proto, {"x": x, "target_class": classes})["explanation"]
    assert error(found, explain(m, x, method, classes).values) < 1e-5


@pytest.mark.parametrize("wrong", [4, -5, 1000])
def test_a_number_that_is_no_class_fails_instead_of_a_blank_map(wrong: int, tmp_path: Path) -> None:
    _, proto = exported(tmp_path, "lift_cam", target="input")
    with pytest.raises(Exception, match="indices element out of data bounds"):
        run(proto, {"x": nets.images(1), "target_class": np.array([wrong])})


def test_seeds_make_it_a_vector_jacobian_product(tmp_path: Path) -> None:
    """For seeds v: the gradient of <v, z>, which is linear in v."""
    m, proto = exported(tmp_path, "gradient", target="seed")
    x, seeds = nets.images(3), nets.images(3, (4,), seed=5)
    found = run(proto, {"x": x, "seed": seeds})["explanation"]
    one_by_one = [ox.gradient(m, x, c).values for c in range(4)]
    expected = sum(seeds[:, c, None, None, None] * g for c, g in enumerate(one_by_one))
    assert error(found, np.asarray(expected, np.float32)) < 1e-5


def test_a_gradient_of_a_layer(tmp_path: Path) -> None:
    m, proto = exported(tmp_path, "gradient", layer="a1", target=1)
    x = nets.images(2)
    found = run(proto, {"x": x})
    assert error(found["explanation"], ox.gradient(m, x, 1, wrt="a1").values) < 1e-5
    assert "heatmap" not in found


# --- pixels, layouts, batches --------------------------------------------------------------------------
def test_saliency_carries_the_normalisation_of_pixels(tmp_path: Path) -> None:
    settings = {"scale": 1 / 255, "mean": [0.1, 0.2, 0.3], "std": [0.1, 0.5, 2.0]}
    m, x = nets.load(nets.conv_net(), preprocess=settings), nets.images()
    ox.export(m, "positive", tmp_path / "e.onnx")
    found = run(tmp_path / "e.onnx", {"x": x})["explanation"]
    assert error(found, ox.saliency(m, x).values) < 1e-5
    assert error(found, ox.saliency(m, x, space="input").values) > 0.1


def test_channels_last(tmp_path: Path) -> None:
    m = nets.load(nets.nhwc_net())
    x = nets.images().transpose(0, 2, 3, 1)
    for method in ("lift_cam", "positive"):
        ox.export(m, method, tmp_path / "e.onnx")
        found = run(tmp_path / "e.onnx", {m.graph.source.name: x})
        assert error(found["explanation"], explain(m, x, method).values) < 1e-5


@pytest.mark.parametrize("kind", ["lift_cam", "grad_cam"])
def test_tokens(kind: str, tmp_path: Path) -> None:
    m = nets.load(tokens.vit("mean"))
    x = nets.images(2, tuple(int(s) for s in m.graph.source.shape[1:]))
    ox.export(m, kind, tmp_path / "e.onnx")
    found = run(tmp_path / "e.onnx", {m.graph.source.name: x})
    assert error(found["explanation"], ox.cam(m, x, kind=kind).values) < 1e-4


def test_the_number_of_images_is_the_file_s(tmp_path: Path) -> None:
    head = "(float[2, 3, 8, 8] x) => (float[2, 4] y)"
    m = nets.load(nets.conv_net(head))
    ox.export(m, "lift_cam", tmp_path / "e.onnx")
    outputs = {o.name: o for o in onnx.load(tmp_path / "e.onnx").graph.output}
    dims = [d.dim_value for d in outputs["explanation"].type.tensor_type.shape.dim]
    assert dims == [2, 4, 4]
    x = nets.images(2)
    assert (
        error(run(tmp_path / "e.onnx", {"x": x})["explanation"], ox.cam(model(), x).values) < 1e-5
    )
    _, free = exported(tmp_path, "lift_cam")
    assert free.graph.output[1].type.tensor_type.shape.dim[0].dim_param == "N"


def test_a_size_left_open_is_that_of_the_settings_and_checked_when_run(tmp_path: Path) -> None:
    body = """r = Conv<pads = [1, 1, 1, 1]>(x, w) f = Relu(r)
              g = GlobalAveragePool(f) q = Flatten(g) z = Gemm(q, v)"""
    proto = nets.build("(float[N, 3, H, W] x) => (float[N, 4] z)", body, w=(5, 3, 3, 3), v=(5, 4))
    m = nets.load(proto, preprocess={"preset": "unit", "size": [12, 10]})
    for method in ("lift_cam", "positive"):
        ox.export(m, method, tmp_path / "e.onnx")
        x = nets.images(2, (3, 12, 10))
        found = run(tmp_path / "e.onnx", {"x": x})
        assert error(found["explanation"], explain(m, x, method).values) < 1e-5
        assert_same_bits(found, run(proto, {"x": x}))
        for size in ((10, 12), (24, 10), (6, 5)):
            with pytest.raises(Exception, match="indices element out of data bounds"):
                run(tmp_path / "e.onnx", {"x": nets.images(4, (3, *size))})


# --- what is written about it --------------------------------------------------------------------------
def test_metadata_says_how_it_was_made(tmp_path: Path) -> None:
    m = nets.load(nets.conv_net(), preprocess="unit")
    written = ox.export(m, "lift_cam", tmp_path / "e.onnx", target=2)
    props = {p.key: p.value for p in onnx.load(tmp_path / "e.onnx").metadata_props}
    meta = json.loads(props["onnxplain.explanation"])
    assert meta == json.loads(json.dumps(written.meta))
    assert meta["method"] == "lift_cam" and meta["layer"] == "features" and meta["target"] == "2"
    assert meta["sha256"] == m.sha256 and meta["versions"]["onnxplain"] == ox.__version__
    assert meta["rules"] == "rescale" and meta["baseline"] == "zero activations"
    assert "Jung & Oh" in meta["paper"] and meta["explained"] == "z"
    assert meta["preprocess"] == "preset unit" and meta["settings"]["scale"] == 1 / 255
    again = ox.load(tmp_path / "e.onnx", device="cpu")
    assert again.preprocess.to_dict() == m.preprocess.to_dict()
    assert again.graph.logit.tensor == "z" and again.graph.pinned is None


def test_two_explanations_in_one_file(tmp_path: Path) -> None:
    first, second = tmp_path / "1.onnx", tmp_path / "2.onnx"
    ox.export(model(), "lift_cam", first)
    m = ox.load(first, device="cpu")
    with pytest.raises(ConfigError, match="has a tensor 'explanation' already: give a prefix"):
        ox.export(m, "positive", second)
    ox.export(m, "positive", second, prefix="pixel.", target="input")
    x = nets.images()
    found = run(second, {"x": x, "pixel.target_class": np.array([1, 2, 3])})
    assert error(found["explanation"], ox.cam(model(), x).values) < 1e-5
    assert error(found["pixel.explanation"], ox.saliency(model(), x, [1, 2, 3]).values) < 1e-5
    onnx.checker.check_model(onnx.load(second), full_check=True)


# --- refusals ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("asked", "kind", "message"),
    [
        ({"method": "lift"}, ConfigError, "method 'lift' is unknown"),
        ({"target": 4}, TargetError, "class 4 does not exist"),
        ({"target": "cat"}, TargetError, "'cat' is not a class number"),
        ({"target": np.array([1])}, TargetError, 'target="input"'),
        ({"target": ox.Target(1, above=0.5)}, TargetError, "depends on the image"),
        ({"target": ox.Target(minus=1)}, TargetError, "depends on the image"),
        ({"layer": "nowhere"}, LayerError, "no layer 'nowhere'"),
        ({"layer": "hidden"}, LayerError, "is not a feature map"),
        ({"method": "positive", "layer": "a1"}, LayerError, "takes no layer"),
    ],
)
def test_bad_questions(asked: dict[str, Any], kind: type, message: str, tmp_path: Path) -> None:
    with pytest.raises(kind, match=message):
        ox.export(model(), **{"method": "lift_cam", "path": tmp_path / "e.onnx", **asked})
    assert not list(tmp_path.iterdir())


def test_what_has_no_picture_has_no_map(tmp_path: Path) -> None:
    m = nets.load(nets.build("(float[N, 5] x) => (float[N, 3] y)", "y = Gemm(x, w)", w=(5, 3)))
    with pytest.raises(InputError, match="is not a picture; export its gradient"):
        ox.export(m, "positive", tmp_path / "e.onnx")
    with pytest.raises(LayerError, match="no feature maps"):
        ox.export(m, "grad_cam", tmp_path / "e.onnx")
    ox.export(m, "gradient", tmp_path / "e.onnx")
    x = nets.images(2, (5,))
    found = run(tmp_path / "e.onnx", {"x": x})
    assert error(found["explanation"], ox.gradient(m, x).values) < 1e-6 and "heatmap" not in found


def test_images_that_cannot_be_freed_are_refused_where_the_file_promises_them(
    tmp_path: Path,
) -> None:
    body = nets.BODY.replace("flat =", "mean = ReduceMean<keepdims = 1>(pooled, first) flat =")
    body = body.replace("Flatten(pooled)", "Flatten(mean)")
    first = np.array([0])
    with pytest.raises(
        ModelError, match=r"explained one by one .*: export the model for one image"
    ):
        ox.export(nets.load(nets.conv_net(body=body, first=first)), "lift_cam", tmp_path / "e.onnx")
    one = nets.load(nets.conv_net("(float[1, 3, 8, 8] x) => (float[1, 4] y)", body, first=first))
    ox.export(one, "lift_cam", tmp_path / "e.onnx")
    x = nets.images(1)
    assert error(run(tmp_path / "e.onnx", {"x": x})["explanation"], ox.cam(one, x).values) < 1e-5


def test_the_model_itself_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(nets.conv_net(), path)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="is the model itself"):
        ox.export(ox.load(path, device="cpu"), "lift_cam", tmp_path / "." / "net.onnx")
    assert path.read_bytes() == before


def test_outputs_that_would_change_are_not_written(tmp_path: Path, monkeypatch: Any) -> None:
    """As where a lifted opset runs other kernels: here the file is told to answer something else."""
    from onnxplain.graph import host

    restore = host.restore

    def other(file: Any, lifted: bool = True) -> onnx.ModelProto:
        found = restore(file, lifted)
        if lifted:
            softmax = next(n for n in found.graph.node if n.op_type == "Softmax")
            softmax.op_type = "LogSoftmax"
        return found

    monkeypatch.setattr(host, "restore", other)
    with pytest.raises(OnnxplainError, match="output 'y' would not keep its bits"):
        ox.export(model(), "lift_cam", tmp_path / "e.onnx")
    assert not list(tmp_path.iterdir())

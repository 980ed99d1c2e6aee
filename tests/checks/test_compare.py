"""Two files beside each other: drift per image, and layers that hold the same under other names."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxplain as ox
from onnxplain.bundled import folder, model_path
from onnxplain.checks.match import match_layers
from onnxplain.dataset import Run
from onnxplain.errors import InputError, LayerError
from onnxplain.metrics import likeness
from onnxplain.results import Record
from tests.checks.made import CENTRE, CORNER, EDGE, bundled, glass, pictures
from tests.nets import build, load

SAMPLES = folder() / "samples"
CENTRED = {"preset": "unit", "mean": 0.5, "std": 0.5}
MEASURES = ("rank_correlation", "top_overlap", "ssim", "centre_shift")


@cache
def vgg(name: str = "vgg_cifar10.onnx") -> ox.Model:
    return bundled(name)


def int8() -> ox.Model:
    return vgg("vgg_cifar10_int8.onnx")


def renamed() -> onnx.ModelProto:
    """Return the bundled network with names that tell nothing, as another exporter would give."""
    model = onnx.load(model_path())
    names = {t for n in model.graph.node for t in n.output} - {o.name for o in model.graph.output}
    new = {name: f"t{i}" for i, name in enumerate(sorted(names, key=hash))}
    for i, node in enumerate(model.graph.node):
        node.name = f"n{i}"
        node.input[:] = [new.get(t, t) for t in node.input]
        node.output[:] = [new.get(t, t) for t in node.output]
    del model.graph.value_info[:]
    return model


def test_a_file_and_itself_do_not_drift() -> None:
    found = ox.compare(vgg(), vgg(), SAMPLES)
    assert found.agreement == 1
    assert found.logit_difference.tolist() == [0, 0, 0]
    for name in ("rank_correlation", "top_overlap", "ssim"):
        assert getattr(found, name) == pytest.approx(np.ones(3), abs=1e-6)
    assert found.centre_shift == pytest.approx(np.zeros(3), abs=1e-6)


@pytest.mark.parametrize("method", ["lift_cam", "positive"])
def test_drift_is_that_of_the_two_maps(method: str) -> None:
    found = ox.compare(vgg(), int8(), SAMPLES, method)
    paths = [SAMPLES / Path(name).name for name in found.names]
    x = vgg().read(paths)
    classes = vgg().predict(x).classes
    if method == "positive":
        maps = [ox.saliency(m, x, classes).heatmap() for m in (vgg(), int8())]
    else:
        maps = [ox.cam(m, x, classes).heatmap() for m in (vgg(), int8())]
    for name in MEASURES:
        expected = getattr(likeness, name)(*maps)
        assert getattr(found, name) == pytest.approx(expected, abs=1e-5)
    z, y = (m.predict(x).logits for m in (int8(), vgg()))
    spread = y.max(1) - y.min(1)
    assert found.logit_difference == pytest.approx(np.abs(z - y).max(1) / spread, rel=1e-4)
    assert found.classes_a.tolist() == classes.tolist()


def test_batches_workers_and_order_do_not_change_it() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)
    whole = ox.compare(vgg(), int8(), pixels, run=Run(batch=7, workers=1))
    parts = ox.compare(vgg(), int8(), pixels, run=Run(batch=2, workers=3))
    turned = ox.compare(vgg(), int8(), pixels[::-1].copy())
    for name in (*MEASURES, "logit_difference"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), abs=1e-5)
        assert getattr(turned, name)[::-1] == pytest.approx(getattr(whole, name), abs=1e-5)


def test_worst_first_and_saved(tmp_path: Path) -> None:
    broken = onnx.load(model_path("vgg_cifar10_int8.onnx"))
    scale = next(i for i in broken.graph.initializer if i.name == "conv1_1.weight_scale")
    scale.CopyFrom(
        numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(3), scale.name)
    )
    found = ox.compare(vgg(), load(broken), SAMPLES)
    ranks = found.rank_correlation[found.order]
    assert (np.diff(ranks) >= 0).all() and ranks[0] < 0.95
    assert found.summary()["rank_correlation"]["worst"] == ranks[0]
    assert found.summary()["centre_shift"]["worst"] == found.centre_shift.max()
    found.save(tmp_path)
    assert Record.load(tmp_path, "comparison") == found
    assert [i["image"] for i in found.to_dict()["images"]] == [found.names[i] for i in found.order]


def test_each_file_reads_pictures_its_own_way() -> None:
    """The same network, once fed 0..1 and once -1..1, sees the same pictures."""
    weight = np.array([[[[2.0]]], [[[1.0]]]], np.float32)
    v = np.array([[1, 0], [0, 1]], np.float32)
    head = "(float[N,1,16,16] x) => (float[N,2] logits)"
    body = (
        "f = Relu(c) m = GlobalAveragePool(f) flat = Flatten(m) logits = Gemm<transB = 1>(flat, v)"
    )
    unit = load(
        build(head, "c = Conv(x, w)\n" + body, w=weight, v=v), preprocess={"preset": "unit"}
    )
    centred = load(
        build(head, "c = Conv(x, w, b)\n" + body, w=weight / 2, b=weight.ravel() / 2, v=v),
        preprocess=CENTRED,
    )
    data = pictures(CENTRE, CORNER, EDGE, base=30)
    found = ox.compare(unit, centred, data)
    assert found.logit_difference.max() < 1e-5
    assert found.ssim.min() > 0.9999
    wrong = ox.compare(unit, load(build(head, "c = Conv(x, w)\n" + body, w=weight, v=v),
                                  preprocess=CENTRED), data)  # fmt: skip
    assert wrong.logit_difference.min() > 0.1


# --- layers ---------------------------------------------------------------------------------------------
def test_layers_are_matched_by_activation_where_names_differ() -> None:
    other = load(renamed(), preprocess=vgg().preprocess, labels=vgg().labels)
    assert other.default_layer.name != vgg().default_layer.name
    found = ox.compare(vgg(), other, SAMPLES)
    layers = {p["a"]: p["b"] for p in found.layers}
    order = [layer.name for layer in vgg().layers if layer.cut]
    twins = [layer.name for layer in other.layers if layer.cut]
    assert layers == dict(zip(order, twins, strict=True))
    assert min(p["similarity"] for p in found.layers) > 0.9999
    assert found.meta["layer"] == {"model": layers["relu3_2"], "reference": "relu3_2"}
    assert found.rank_correlation.min() > 0.9999


def test_a_layer_named_in_either_file_is_found_in_both() -> None:
    other = load(renamed(), preprocess=vgg().preprocess, labels=vgg().labels)
    default = ox.compare(vgg(), other, SAMPLES)
    pair = next(p for p in default.layers if p["a"] == "relu2_2")
    for name in (pair["a"], pair["b"]):
        found = ox.compare(vgg(), other, SAMPLES, layer=name)
        assert found.meta["layer"] == {"model": pair["b"], "reference": "relu2_2"}
        assert found.rank_correlation.min() > 0.9999
    with pytest.raises(LayerError, match="no layer 'relu9'"):
        ox.compare(vgg(), other, SAMPLES, layer="relu9")


def test_layers_of_another_layout_are_matched() -> None:
    """Channels first in one file, last in the other."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=(4, 3, 3, 3)).astype(np.float32)
    v = rng.normal(size=(2, 4)).astype(np.float32)
    first = load(build(
        "(float[N,3,12,12] x) => (float[N,2] y)",
        "c = Conv(x, w) f = Relu(c) m = GlobalAveragePool(f) g = Flatten(m) y = Gemm<transB = 1>(g, v)",
        w=w, v=v,
    ))  # fmt: skip
    last = load(build(
        "(float[N,12,12,3] x) => (float[N,2] y)",
        "t = Transpose<perm = [0, 3, 1, 2]>(x) k = Conv(t, w) u = Transpose<perm = [0, 2, 3, 1]>(k) "
        "r = Relu(u) m = ReduceMean<keepdims = 0>(r, axes) y = Gemm<transB = 1>(m, v)",
        w=w, v=v, axes=np.array([1, 2], np.int64),
    ))  # fmt: skip
    x = rng.normal(size=(3, 3, 12, 12)).astype(np.float32)
    pairs = match_layers(first, last, x, np.ascontiguousarray(x.transpose(0, 2, 3, 1)))
    found = {p.a: p for p in pairs}
    assert found["f"].b == "r" and found["f"].similarity > 0.999999


def test_unrelated_layers_are_not_matched() -> None:
    a, b = glass(), glass(w=((-1,), (-1,)))  # nothing is left behind its Relu
    data = a.read(pictures(CENTRE, CORNER)[0])
    other = load(build(
        "(float[N,1,16,16] x) => (float[N,2] logits)",
        "k = Conv(x, w) u = Relu(k) m = GlobalAveragePool(u) q = Flatten(m) logits = Gemm<transB = 1>(q, v)",
        w=np.array([[[[-1.0]]], [[[-1.0]]]], np.float32), v=np.eye(2, dtype=np.float32),
    ))  # fmt: skip
    assert match_layers(a, other, data, data) == ()
    assert {p.a for p in match_layers(a, b, data, data)} == {
        "c",
        "features",
        "mean",
        "flat",
    }  # by name


def test_models_of_other_questions_are_refused() -> None:
    with pytest.raises(InputError, match="10 classes"):
        ox.compare(vgg(), glass(), SAMPLES)


def test_a_wrong_scale_in_one_layer_is_seen_in_the_maps(shared: Path) -> None:
    """Top-1 agreement looks acceptable, the maps do not: the gate that docs/checks.md shows."""
    from tools.quantised import broken

    with np.load(shared / "data/images/cifar10_test_lossless.npz") as file:
        pixels = file["images"][::5]
    gates = {
        "check": [{"kind": "agreement", "min": 0.94}, {"kind": "ssim", "min": 0.98}],
    }
    good = ox.check(gates, model=int8(), reference=vgg(), data=pixels)
    bad = ox.check(gates, model=load(broken()), reference=vgg(), data=pixels)
    assert good.passed
    assert [r.status for r in bad.results] == ["passed", "failed"]


def test_what_is_kept_on_disk_tells_devices_and_methods_apart(tmp_path: Path) -> None:
    """One file on two devices has one hash; their numbers may differ all the same."""
    run = Run(cache=tmp_path)
    ox.compare(vgg(), vgg(), SAMPLES, run=run)
    ox.compare(vgg(), vgg(), SAMPLES, run=run)
    assert len(list(tmp_path.iterdir())) == 1
    ox.compare(vgg(), ox.load(model_path(), device="auto"), SAMPLES, run=run)
    assert len(list(tmp_path.iterdir())) == 2
    ox.compare(vgg(), vgg(), SAMPLES, "positive", run=run)
    assert len(list(tmp_path.iterdir())) == 3


def test_files_that_do_not_classify_are_compared_by_their_maps() -> None:
    """A head of one value per position: no classes, an element is explained."""
    head, body = (
        "(float[N,1,16,16] x) => (float[N,1,16,16] y)",
        "c = Conv(x, w) f = Relu(c) y = Conv(f, u)",
    )
    w, u = np.ones((2, 1, 1, 1), np.float32), np.ones((1, 2, 1, 1), np.float32)
    a = load(build(head, body, w=w, u=u), preprocess={"preset": "unit"})
    found = ox.compare(a, a, pictures(CENTRE, EDGE), "positive", target="y[0,4:12,4:12]")
    assert found.classes_a is None and found.logit_difference is None
    assert found.verdict == "2 images; the files predict no classes"
    assert found.rank_correlation.tolist() == [1, 1]
    gates = {"check": [{"kind": "dead-filters"}, {"kind": "latency", "max": 1e6, "repeats": 3}],
             "method": "positive", "target": "y[0,4:12,4:12]"}  # fmt: skip
    assert ox.check(gates, model=a, data=pictures(CENTRE, EDGE)).passed


def test_classes_are_called_by_their_labels() -> None:
    found = ox.compare(glass(), glass(v=((0, 1), (1, 0))), pictures(CENTRE))
    assert found.predicted(0) == ("bright", "half")
    assert found.agreement == 0 and not found.same[0]
    assert found.to_dict()["images"][0]["predicted"] == ("bright", "half")

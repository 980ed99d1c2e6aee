"""What ships in models/: whole, small, licensed, and as accurate as its manifest says."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from PIL import Image

MODELS = Path(__file__).resolve().parent.parent / "models"
MANIFEST: dict[str, dict[str, Any]] = json.loads(
    (MODELS / "manifest.json").read_text(encoding="utf-8")
)
NETS, SAMPLES = MANIFEST["models"], MANIFEST["samples"]
FREE = {"CC0-1.0", "public domain"}
FLOAT, INT8 = "vgg_cifar10.onnx", "vgg_cifar10_int8.onnx"


def metadata(name: str) -> dict[str, Any]:
    """The onnxplain.* properties inside a model file, parsed."""
    properties = onnx.load(MODELS / name).metadata_props
    return {p.key: json.loads(p.value) for p in properties if p.key.startswith("onnxplain.")}


def prepare(pixels: np.ndarray, spec: dict[str, Any]) -> np.ndarray:
    """RGB pixels [N,H,W,3] in 0..255 -> input [N,3,H,W], by the file's own pre-processing."""
    x = (pixels * spec["scale"] - spec["mean"]) / spec["std"]
    return x.transpose(0, 3, 1, 2).astype(np.float32)


def logits(name: str, pixels: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(MODELS / name, providers=["CPUExecutionProvider"])
    x = prepare(pixels, metadata(name)["onnxplain.preprocess"])
    return session.run(["logits"], {"image": x})[0]


@cache
def correct(name: str, shared: Path) -> tuple[int, int]:
    """How many of the lossless test images get their label, and how many there are."""
    with np.load(shared / "data/images/cifar10_test_lossless.npz", allow_pickle=False) as file:
        pixels, labels = file["images"], file["labels"]
    return int((logits(name, pixels).argmax(1) == labels).sum()), len(labels)


def predicted(sample: str, name: str) -> tuple[str, float]:
    """The class of a sample photo squashed to the model's size, and its probability."""
    about = metadata(name)
    with Image.open(MODELS / sample) as picture:
        size = tuple(about["onnxplain.preprocess"]["size"])
        small = np.asarray(picture.resize(size, Image.Resampling.BILINEAR))
    z = logits(name, small[None])[0].astype(np.float64)
    share = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    return about["onnxplain.labels"][int(z.argmax())], float(share.max())


def test_manifest_lists_every_file_and_no_other() -> None:
    there = {p.relative_to(MODELS).as_posix() for p in MODELS.rglob("*") if p.is_file()}
    assert there == {"manifest.json", *NETS, *SAMPLES}


@pytest.mark.parametrize("name", [*NETS, *SAMPLES])
def test_file_is_the_one_in_the_manifest(name: str) -> None:
    content = (MODELS / name).read_bytes()
    entry = (NETS | SAMPLES)[name]
    assert entry["bytes"] == len(content)
    assert entry["sha256"] == hashlib.sha256(content).hexdigest()
    assert len(content) <= (4_000_000 if name in NETS else 100_000)


@pytest.mark.parametrize("name", NETS)
def test_model_is_valid_and_says_how_to_feed_it(name: str) -> None:
    model = onnx.load(MODELS / name)
    onnx.checker.check_model(model, full_check=True)
    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    assert batch.dim_param == "N"
    about = metadata(name)
    assert about["onnxplain.preprocess"] == NETS[name]["preprocess"]
    assert about["onnxplain.labels"] == NETS[name]["labels"]
    assert NETS[name]["licence"] == "Apache-2.0"


@pytest.mark.parametrize("name", NETS)
def test_a_row_of_a_batch_is_the_image_alone(name: str, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (3, 32, 32, 3))
    alone = np.concatenate([logits(name, pixels[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(logits(name, pixels), alone, rtol=1e-4, atol=1e-4)


def test_head_is_not_linear() -> None:
    ops = [node.op_type for node in onnx.load(MODELS / FLOAT).graph.node]
    assert ops[ops.index("Flatten") :] == ["Flatten", "Gemm", "Relu", "Gemm", "Relu", "Gemm"]


@pytest.mark.parametrize("name", NETS)
def test_accuracy_is_the_one_in_the_manifest(name: str, shared: Path) -> None:
    hits, total = correct(name, shared)
    stated = NETS[name]["accuracy"]
    assert stated["total"] == total
    assert abs(stated["correct"] - hits) <= 2  # near ties, decided by the processor's rounding
    assert stated["share"] == round(stated["correct"] / total, 4)
    assert hits / total >= 0.85


def test_int8_twin_is_within_two_points(shared: Path) -> None:
    (exact, total), (rounded, _) = correct(FLOAT, shared), correct(INT8, shared)
    assert abs(exact - rounded) / total <= 0.02


@pytest.mark.parametrize("name", SAMPLES)
def test_sample_has_an_author_and_a_free_licence(name: str) -> None:
    entry = SAMPLES[name]
    assert entry["licence"] in FREE
    assert entry["author"] and entry["origin"].startswith("scikit-image")
    crop = entry["crop"]
    with Image.open(MODELS / name) as picture:
        assert picture.size == (crop["right"] - crop["left"], crop["bottom"] - crop["top"])


@pytest.mark.parametrize("name", SAMPLES)
def test_sample_is_classified_as_the_manifest_says(name: str) -> None:
    label, share = predicted(name, FLOAT)
    assert label == SAMPLES[name]["predicted"]
    assert share == pytest.approx(SAMPLES[name]["probability"], abs=0.02)


@pytest.mark.parametrize("model", NETS)
@pytest.mark.parametrize("sample", ["cat", "horse"])
def test_animals_are_recognised(sample: str, model: str) -> None:
    assert predicted(f"samples/{sample}.jpg", model)[0] == sample

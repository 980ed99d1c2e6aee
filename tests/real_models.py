"""The real models in data/INDEX.md: how to feed each, what measures it, what it should reach.

`REAL_MODELS[file]` is one row; `input_spec` reads its input from the file, `samples` gives pictures
with their labels. Nothing here needs onnxplain's own model loader.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from onnxplain.preprocess import InputSpec, Preprocess, Source

Data = Literal["imagenet", "cifar10", "mnist", "catdog", "person", "tinyvgg", "none"]

CIFAR10 = tuple(
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
)
DIGITS = tuple("0123456789")
TINYVGG = {  # its labels, in order -> the ImageNet class of the same name
    "lifeboat": 625,
    "ladybug": 301,
    "pizza": 963,
    "bell pepper": 945,
    "school bus": 779,
    "koala": 105,
    "espresso": 967,
    "red panda": 387,
    "orange": 950,
    "sports car": 817,
}


@dataclass(frozen=True)
class RealModel:
    """One file.

    Attributes:
        file: below data/models.
        settings: keywords of Preprocess, "preset" included.
        data: which pictures measure it (see `samples`); "none" where there are none with labels.
        accuracy: as in INDEX.md, percent, by what it was measured on: "top1" and "top5" on 1000
            pictures of which imagenet_sample holds 500, "lossless" on the 483 CIFAR pictures.
        offset: class index minus label; 1 where class 0 is the background.
        labels: class names, where they are not ImageNet's.
        tail: what the output is: "logits", or the probability that the file ends with.
        note: what a test should know.
    """

    file: str
    settings: dict[str, Any]
    data: Data
    accuracy: dict[str, float] = field(default_factory=dict)
    offset: int = 0
    labels: tuple[str, ...] | None = None
    tail: Literal["logits", "softmax"] = "logits"
    note: str = ""

    @property
    def pre(self) -> Preprocess:
        return Preprocess.from_dict(self.settings, "tests/real_models.py")

    def path(self, shared: Path) -> Path:
        return shared / "data" / "models" / self.file


def _imagenet(file: str, top1: float, top5: float, settings: Any = "imagenet", **more: Any):
    settings = {"preset": settings} if isinstance(settings, str) else settings
    accuracy = {"top1": top1, "top5": top5}
    return RealModel(f"imagenet/{file}.onnx", settings, "imagenet", accuracy, **more)


def _cifar(file: str, lossless: float, settings: dict[str, Any], **more: Any):
    accuracy = {"lossless": lossless}
    return RealModel(f"cifar10/{file}.onnx", settings, "cifar10", accuracy, labels=CIFAR10, **more)


def _mnist(file: str, top1: float, preset: str):
    settings = {"preset": preset, "channels": "L"}
    return RealModel(f"mnist/{file}.onnx", settings, "mnist", {"top1": top1}, labels=DIGITS)


def _other(file: str, settings: dict[str, Any], data: Data, labels: tuple[str, ...], **more: Any):
    more = {"tail": "softmax", **more}
    return RealModel(f"other/{file}.onnx", settings, data, labels=labels, **more)


_TORCH_CIFAR = {"preset": "imagenet", "resize": "none"}
_CROP = {"resize": "short"}  # ImageNet geometry
_PERSON = ("no person", "person")

_ROWS = (
    _imagenet(
        "mobilenet_v2_torchvision_int8_qdq", 39.8, 90.5, note="saturated logits: up to 8 tie"
    ),
    _imagenet("mobilenet_v2_torchvision_float", 79.1, 93.7),
    _imagenet("squeezenet1_1_torchvision", 63.9, 85.2, note="non-linear head"),
    _imagenet("squeezenet1_1_torchvision_dynamo", 63.9, 85.2, note="non-linear head"),
    _imagenet("squeezenet1_1_torchvision_fp16", 63.8, 85.2, note="float16 input and output"),
    _imagenet("squeezenet1_1_ortq_qdq", 63.7, 84.9),
    _imagenet("squeezenet1_1_ortq_qoperator", 63.8, 84.9, note="com.microsoft QLinear ops"),
    _imagenet("darknet_tiny_imagenet", 67.4, 87.0, {"preset": "unit", **_CROP}),
    _imagenet("mobilenet_v1_025_224_keras_nhwc", 60.3, 82.0, "inception", tail="softmax"),
    _imagenet("mobilenet_v1_025_128_tf1_frozen", 46.8, 72.1, "inception", offset=1, tail="softmax"),
    _imagenet(
        "tf2_mobilenet_v2_1.0_224_ptq_qdq",
        88.1,
        98.2,
        {"preset": "raw", **_CROP},
        offset=1,
        tail="softmax",
        note="uint8 input and output",
    ),
    _imagenet(
        "tf2_mobilenet_v2_1.0_224_ptq_float", 88.3, 98.2, "inception", offset=1, tail="softmax"
    ),
    _cifar("resnet20", 93.8, _TORCH_CIFAR),
    _cifar("resnet32_bn_unfused", 94.2, _TORCH_CIFAR),
    _cifar("resnet56_dynamo", 95.7, _TORCH_CIFAR),
    _cifar("vgglike_keras", 89.2, {"preset": "unit"}, tail="softmax", note="non-linear head"),
    _cifar("cnn_fc_keras_nchw", 74.7, {"preset": "unit"}, tail="softmax", note="non-linear head"),
    _cifar("lenet_captum", 65.0, {"mean": 127.5, "std": 127.5}, note="non-linear head"),
    _cifar("resnet8_mlperftiny", 91.5, {"preset": "raw"}, tail="softmax"),
    _cifar("resnet8_mlperftiny_int8_qdq", 90.9, {"mean": 128}, tail="softmax", note="int8 input"),
    _mnist("mnist_cntk_opset7", 98.7, "raw"),
    _mnist("mnist_cntk_int8_convinteger", 98.6, "unit"),
    _mnist("verivital_convnet_maxpool", 97.6, "unit"),
    _other(
        "teachable_machine_catdog",
        {"resize": "fit", "mean": 127.5, "std": 127.5},
        "catdog",
        ("cat", "dog"),
        accuracy={"top1": 100 * 102 / 123},
        note="non-linear head; accuracy: 97 of 118 dogs, 5 of 5 cats",
    ),
    _other(
        "mobilenet_v1_025_96_vww", {"preset": "unit"}, "person", _PERSON, accuracy={"coco": 86.4}
    ),
    _other(
        "mobilenet_v1_025_96_vww_int8_qdq",
        {"mean": 128},
        "person",
        _PERSON,
        accuracy={"coco": 86.8},
        note="int8 input",
    ),
    _other(
        "ultraface_slim_320",
        {"mean": 127, "std": 128},
        "none",
        ("background", "face"),
        note="detector: scores [1, 4420, 2] after Softmax and boxes [1, 4420, 4], no [N, C]",
    ),
    _other(
        "tinyvgg_cnn_explainer",
        {"preset": "unit"},
        "tinyvgg",
        tuple(TINYVGG),
        accuracy={"top1": 60.0},
        note="accuracy: 6 of 10 ImageNet samples",
    ),
    _other(
        "mini_xception_gender",
        {"mean": 127.5, "std": 127.5, "channels": "L"},
        "none",
        ("woman", "man"),
        note="weakly verified: 26 of 40 on faces that are not in data/",
    ),
)

REAL_MODELS: dict[str, RealModel] = {row.file: row for row in _ROWS}


def input_spec(path: Path) -> InputSpec:
    """Read name, shape, type and layout of the (only) input of a real model."""
    import onnx

    graph = onnx.load(path).graph
    weights = {tensor.name for tensor in graph.initializer}
    (value,) = [v for v in graph.input if v.name not in weights]
    shape = tuple(d.dim_value or -1 for d in value.type.tensor_type.shape.dim)[1:]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    return InputSpec(value.name, shape, dtype, "NHWC" if shape[2] in (1, 3) else "NCHW")


def samples(data: Data, shared: Path, limit: int | None = None) -> tuple[list[Source], np.ndarray]:
    """Return up to `limit` pictures, spread over the set, and their labels int64 [n]."""
    pairs = list(_PAIRS[data](shared / "data" / "images"))
    if limit is not None and limit < len(pairs):
        pairs = [pairs[i * len(pairs) // limit] for i in range(limit)]
    return [picture for picture, _ in pairs], np.array([label for _, label in pairs], np.int64)


def _imagenet_pairs(images: Path) -> Iterator[tuple[Source, int]]:
    with (images / "imagenet_sample_labels.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            yield images / "imagenet_sample" / row["file"], int(row["class_index"])


def _npz_pairs(path: Path) -> Iterator[tuple[Source, int]]:
    with np.load(path, allow_pickle=False) as arrays:
        yield from zip(arrays["images"], arrays["labels"], strict=True)


def _catdog_pairs(images: Path) -> Iterator[tuple[Source, int]]:
    for path, label in _imagenet_pairs(images):
        if 151 <= label <= 268 or 281 <= label <= 285:
            yield path, int(label <= 268)


def _tinyvgg_pairs(images: Path) -> Iterator[tuple[Source, int]]:
    own = {label: i for i, label in enumerate(TINYVGG.values())}
    for path, label in _imagenet_pairs(images):
        if label in own:
            yield path, own[label]


def _person_pairs(images: Path) -> Iterator[tuple[Source, int]]:
    """COCO pictures: 1 where some person's box covers more than 0.5 % of the area."""
    for entry in json.loads((images / "coco_localisation.json").read_text())["images"]:
        boxes = [box["xyxy"] for box in entry["boxes"] if box["name"] == "person"]
        areas = [(right - left) * (bottom - top) for left, top, right, bottom in boxes]
        yield images / "coco_localisation" / entry["file"], int(max(areas, default=0) > 0.005)


_PAIRS = {
    "imagenet": _imagenet_pairs,
    "cifar10": lambda images: _npz_pairs(images / "cifar10_test_lossless.npz"),
    "mnist": lambda images: _npz_pairs(images / "mnist_test_1000.npz"),
    "catdog": _catdog_pairs,
    "person": _person_pairs,
    "tinyvgg": _tinyvgg_pairs,
}

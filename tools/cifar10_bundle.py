"""What is made of the trained network: two ONNX files, the sample photos and their manifest."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cifar10_training as cifar10
import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from PIL import Image

FLOAT, INT8 = "vgg_cifar10.onnx", "vgg_cifar10_int8.onnx"
CALIBRATION = 500  # training images that set the ranges of the int8 activations
PREPROCESS = {
    "resize": "squash",
    "size": [32, 32],
    "scale": cifar10.SCALE,
    "mean": list(cifar10.MEAN),
    "std": list(cifar10.STD),
    "channels": "RGB",
}
DATA = "49,000 of the CIFAR-10 training images (Krizhevsky 2009), as JPEG; none of them is shipped"
PHOTOS: dict[str, dict[str, Any]] = {
    "cat.jpg": {
        "image": "chelsea",
        "title": "Chelsea the cat",
        "author": "Stéfan van der Walt",
        "licence": "CC0-1.0",
        "box": [75, 0, 375, 300],
        "shows": "cat",
    },
    "horse.jpg": {
        "image": "horse",
        "title": "Horse, black and white silhouette (openclipart 158377)",
        "author": "Andreas Preuss (marauder)",
        "licence": "CC0-1.0",
        "box": [0, 0, 400, 328],
        "shows": "horse",
    },
    "rocket.jpg": {
        "image": "rocket",
        "title": "Falcon 9 with DSCOVR before its launch",
        "author": "SpaceX",
        "licence": "public domain",
        "box": [107, 0, 534, 427],
        "shows": "rocket",  # none of the ten classes: what made the network answer all the same?
    },
}


def export(checkpoint: Path, models: Path) -> None:
    """Write the trained float32 network."""
    write(cifar10.trained(checkpoint), models / FLOAT)


def write(net: torch.nn.Module, path: Path) -> None:
    """Export a network in eval mode; BatchNormalization is folded into the convolutions."""
    torch.onnx.export(
        net,
        (torch.zeros(1, 3, 32, 32),),
        path,
        dynamo=False,
        opset_version=17,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
    )
    model = onnx.load(path)
    shorten_names(model.graph)
    save(model, path)


def shorten_names(graph: onnx.GraphProto) -> None:
    """Name nodes, outputs and weights by the layer: `/relu1_1/Relu` becomes `relu1_1`."""
    renamed = {}
    for node in graph.node:
        node.name = node.name.split("/")[1]
        renamed[node.output[0]] = node.name
        for name, part in zip(node.input[1:], ("weight", "bias"), strict=False):
            renamed[name] = f"{node.name}.{part}"
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed[name] for name in node.output]
    for weight in graph.initializer:
        weight.name = renamed[weight.name]


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write `model` with its pre-processing and labels inside."""
    labels = json.dumps(cifar10.CLASSES)
    texts = {"onnxplain.preprocess": json.dumps(PREPROCESS), "onnxplain.labels": labels}
    onnx.helper.set_model_props(model, texts)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


class Calibration(CalibrationDataReader):
    """Hands training images to the quantiser, in batches of 100."""

    def __init__(self, shared: Path) -> None:
        pixels, _ = cifar10.read_training_images(shared)
        chosen = np.random.default_rng(cifar10.SEED).choice(len(pixels), CALIBRATION, replace=False)
        self.batches = iter(np.split(cifar10.normalise(pixels[chosen]), CALIBRATION // 100))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch, or None at the end."""
        batch = next(self.batches, None)
        return None if batch is None else {"image": batch}


def quantize(shared: Path, models: Path) -> None:
    """Write the int8 twin: Quantize/Dequantize pairs, one scale per output channel of a weight.

    Every Relu is kept, though a Quantize could clip in its place: both files then have the same
    layers, and what they show differently is due to the rounding alone.
    """
    path = models / INT8
    quantize_static(
        models / FLOAT,
        path,
        Calibration(shared),
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        extra_options={"QDQKeepRemovableActivations": True},
    )
    save(onnx.load(path), path)


def photos(models: Path) -> None:
    """Crop the sample photos out of scikit-image's wheel, at their own resolution."""
    import skimage.data
    from skimage.util import img_as_ubyte

    for name, photo in PHOTOS.items():
        pixels = img_as_ubyte(getattr(skimage.data, photo["image"])())
        picture = Image.fromarray(pixels).convert("RGB").crop(photo["box"])
        picture.save(models / "samples" / name, quality=90, optimize=True)


def predict(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Return the logits [N,10] that onnxruntime computes on the CPU for pixels [N,32,32,3]."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": cifar10.normalise(pixels)})[0]


def describe(path: Path) -> dict[str, Any]:
    """Return what the manifest says of any file."""
    content = path.read_bytes()
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def model_entry(path: Path, shared: Path, how: str) -> dict[str, Any]:
    """Return the manifest's entry of a model, with its accuracy on the lossless test images."""
    pixels, labels = cifar10.read_test_images(shared)
    correct = int((predict(path, pixels).argmax(1) == labels).sum())
    packages = ("torch", "onnx", "onnxruntime-gpu", "numpy", "Pillow", "scikit-image")
    return {
        **describe(path),
        "licence": "Apache-2.0",
        "provenance": {
            "data": DATA,
            "how": how,
            "tool": "tools/train_cifar10.py",
            "command": "python tools/train_cifar10.py --shared SHARED",
            "versions": {
                "python": platform.python_version(),
                **{name: version(name) for name in packages},
            },
        },
        "preprocess": PREPROCESS,
        "labels": cifar10.CLASSES,
        "accuracy": {
            "images": "483 CIFAR-10 test images at their exact pixel values",
            "correct": correct,
            "total": len(labels),
            "share": round(correct / len(labels), 4),
        },
    }


def photo_entry(path: Path, models: Path) -> dict[str, Any]:
    """Return the manifest's entry of a sample photo, with what the float network says of it."""
    photo = PHOTOS[path.name]
    with Image.open(path) as picture:
        small = np.asarray(picture.resize((32, 32), Image.Resampling.BILINEAR))
    logits = predict(models / FLOAT, small[None])[0].astype(np.float64)
    share = np.exp(logits - logits.max())
    share /= share.sum()
    return {
        **describe(path),
        "title": photo["title"],
        "origin": f"scikit-image {version('scikit-image')}, skimage.data.{photo['image']}()",
        "author": photo["author"],
        "licence": photo["licence"],
        "crop": dict(zip(("left", "top", "right", "bottom"), photo["box"], strict=True)),
        "change": "cropped, not scaled, saved as JPEG of quality 90",
        "shows": photo["shows"],
        "predicted": cifar10.CLASSES[int(share.argmax())],
        "probability": round(float(share.max()), 4),
    }


def manifest(shared: Path, models: Path) -> None:
    """Write `manifest.json`: for each file its hash, origin, licence and what was measured."""
    trained = f"trained for {cifar10.EPOCHS} epochs with seed {cifar10.SEED}, exported to opset 17"
    rounded = f"{FLOAT} quantised to int8 (QDQ) with ranges from {CALIBRATION} training images"
    entries = {
        "models": {
            FLOAT: model_entry(models / FLOAT, shared, trained),
            INT8: model_entry(models / INT8, shared, rounded),
        },
        "samples": {
            f"samples/{name}": photo_entry(models / "samples" / name, models) for name in PHOTOS
        },
    }
    text = json.dumps(entries, indent=2, ensure_ascii=False)
    (models / "manifest.json").write_text(text + "\n", encoding="utf-8")

"""Compare the explanations of quantised files with those of their float twins on real images.

    python -m tools.quantised [--images 100]

Prints, per pair, what `onnxplain compare` says of the two: how often both predict the same class, the largest
difference of a logit, and how alike their LIFT-CAM and positive saliency maps are (medians over the images).
The last row is the bundled int8 file with a wrong scale in one layer, `broken`. A pair whose predictions
disagree is not expected to agree in its maps.
"""

from __future__ import annotations

import argparse

import numpy as np
import onnx
from onnx import numpy_helper

import onnxplain as ox
from onnxplain.bundled import model_path
from onnxplain.dataset import Data
from tests.conftest import SHARED
from tests.real_models import REAL_MODELS, samples

TWINS = {
    "imagenet/mobilenet_v2_torchvision_int8_qdq.onnx": "imagenet/mobilenet_v2_torchvision_float.onnx",
    "imagenet/squeezenet1_1_ortq_qdq.onnx": "imagenet/squeezenet1_1_torchvision.onnx",
    "imagenet/squeezenet1_1_ortq_qoperator.onnx": "imagenet/squeezenet1_1_torchvision.onnx",
    "imagenet/tf2_mobilenet_v2_1.0_224_ptq_qdq.onnx": "imagenet/tf2_mobilenet_v2_1.0_224_ptq_float.onnx",
    "cifar10/resnet8_mlperftiny_int8_qdq.onnx": "cifar10/resnet8_mlperftiny.onnx",
    "mnist/mnist_cntk_int8_convinteger.onnx": "mnist/mnist_cntk_opset7.onnx",
    "other/mobilenet_v1_025_96_vww_int8_qdq.onnx": "other/mobilenet_v1_025_96_vww.onnx",
}


BROKEN = "conv1_1.weight_scale"
COLUMNS = (
    "quantised file", "method", "same class", "logit difference", "rank correlation", "top overlap",
    "SSIM", "centre shift",
)  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100)
    given = parser.parse_args()
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for quantised, twin in TWINS.items():
        a, b = (REAL_MODELS[name] for name in (twin, quantised))
        models = [ox.load(m.path(SHARED), device="cpu", preprocess=m.pre) for m in (a, b)]
        rows(quantised, *models, images(b.data, given.images))
    cifar = images("cifar10", given.images)
    twin = ox.load(model_path(), device="cpu")
    int8 = model_path("vgg_cifar10_int8.onnx")
    rows("bundled vgg_cifar10_int8.onnx", twin, ox.load(int8, device="cpu"), cifar)
    rows("the same, a wrong scale in `conv1_1`", twin, ox.load(broken(), device="cpu"), cifar)


def images(data: str, count: int) -> Data:
    """Return pictures of a data set, spread over it."""
    found = samples(data, SHARED, limit=count)[0]
    return np.stack(found) if isinstance(found[0], np.ndarray) else found


def broken(factor: float = 1.5) -> onnx.ModelProto:
    """Return the bundled int8 network with the weights' scales of its first layer too large."""
    model = onnx.load(model_path("vgg_cifar10_int8.onnx"))
    scale = next(i for i in model.graph.initializer if i.name == BROKEN)
    wrong = (numpy_helper.to_array(scale) * factor).astype(np.float32)
    scale.CopyFrom(numpy_helper.from_array(wrong, BROKEN))
    return model


def rows(name: str, twin: ox.Model, quantised: ox.Model, data: Data) -> None:
    """Print a line per method."""
    for method in ("lift_cam", "positive"):
        found = ox.compare(twin, quantised, data, method)
        medians = " | ".join(f"{v['median']:.3f}" for v in found.summary().values())
        print(
            f"| {name} | {method.replace('_', '-')} | {found.agreement:.0%} | {medians} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

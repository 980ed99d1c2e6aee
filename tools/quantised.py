"""Compare the explanations of quantised files with those of their float twins on real images.

    python -m tools.quantised [--images 20]

Prints, per pair, how often both predict the same class and the Spearman rank correlation of their LIFT-CAM
and positive saliency maps for the float file's class (median over images). Only correlations are printed
where maps exist; a pair whose predictions disagree is not expected to agree in its maps.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

import onnxplain as ox
from onnxplain.bundled import model_path
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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20)
    given = parser.parse_args()
    print("| quantised file | same class | LIFT-CAM | positive saliency |\n|---|---|---|---|")
    for quantised, twin in TWINS.items():
        a, b = REAL_MODELS[quantised], REAL_MODELS[twin]
        models = [ox.load(m.path(SHARED), device="cpu", preprocess=m.pre) for m in (a, b)]
        sources, _ = samples(a.data, SHARED, limit=given.images)
        row(quantised, *models, [m.read(sources) for m in models])
    files = [ox.load(model_path(f"vgg_cifar10{s}.onnx"), device="cpu") for s in ("_int8", "")]
    sources, _ = samples("cifar10", SHARED, limit=given.images)
    row("bundled vgg_cifar10_int8.onnx", *files, [m.read(sources) for m in files])


def row(name: str, quantised: ox.Model, twin: ox.Model, inputs: list[np.ndarray]) -> None:
    """Print one line for the inputs of the two files."""
    classes = twin.predict(inputs[1]).classes
    agree = (quantised.predict(inputs[0]).classes == classes).mean()

    def correlation(explain: Callable[[ox.Model, np.ndarray], np.ndarray]) -> str:
        maps = [explain(m, x) for m, x in zip((quantised, twin), inputs, strict=True)]
        ranks = [spearman(p.ravel(), q.ravel()) for p, q in zip(*maps, strict=True)]
        return f"{np.median(ranks):.2f}"

    lift = correlation(lambda m, x: ox.cam(m, x, classes).values)
    positive = correlation(lambda m, x: ox.saliency(m, x, classes).values)
    print(f"| {name} | {agree:.0%} | {lift} | {positive} |", flush=True)


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Return the rank correlation; equal values share their mean rank."""
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


if __name__ == "__main__":
    main()

"""Are LIFT-CAM's coefficients the closest to Shapley values, and fast? (Jung & Oh, ICCV 2021)

    python -m tools.reproduce.shapley --images 40 --write docs/results.md

On every model whose head (the network from the default layer on) is not linear; on linear heads LIFT-CAM
is exact (tests/methods/test_lift_cam.py). Shapley values of the channels are sampled over --permutations
orders in antithetic pairs. Where a head is a convolution or a dense layer, ReLU and a linear end, an order is
one cumulative sum of what each channel adds before the ReLU; elsewhere the network itself runs on every
prefix. Either way the values are those of the file's own head: the sums are checked against it. The column
"halves" is the cosine of the two halves of the sample, how sure the reference itself is.

int8 SqueezeNets are left out: a head that rounds has no such sum, and running it on 512,000 prefixes takes a
quarter of an hour per image. Times are of one image at a time, medians over --timed images after a warm-up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx
from onnx import numpy_helper

import onnxplain as ox
from onnxplain.dataset import Batch, Job, Partial
from onnxplain.methods.maps import channels_first
from onnxplain.metrics import Answers
from onnxplain.metrics.coefficients import (
    efficiency_residual,
    shap_cosine,
    shap_distance,
    shap_spearman,
)
from onnxplain.metrics.statistics import holm, interval, paired
from onnxplain.metrics.tables import short
from onnxplain.render.report import Table
from tools.reproduce.common import (
    BUNDLED,
    chosen,
    load,
    markdown,
    options,
    pictures,
    provenance,
    publish,
    run,
)

Array = np.ndarray[Any, Any]
Prefix = Callable[[Array], Array]
"""An order of the K channels -> the score with none, the first, the first two, ... of them, [K + 1]."""

METHODS = ("lift_cam", "grad_cam", "grad_cam_plusplus", "xgrad_cam", "ablation_cam", "score_cam")
MEASURES = ("cosine", "spearman", "distance", "efficiency")
MODELS = {
    BUNDLED: "any",
    "cifar10/vgglike_keras.onnx": "any",
    "cifar10/cnn_fc_keras_nchw.onnx": "any",
    "cifar10/lenet_captum.onnx": "any",
    "mnist/mnist_cntk_opset7.onnx": "any",
    "mnist/mnist_cntk_int8_convinteger.onnx": "any",
    "imagenet/squeezenet1_1_torchvision.onnx": "conv",
    "imagenet/squeezenet1_1_torchvision_dynamo.onnx": "conv",
    "imagenet/squeezenet1_1_torchvision_fp16.onnx": "conv",
    "other/teachable_machine_catdog.onnx": "dense",
}


@dataclass(frozen=True, eq=False)
class Closeness(Job):
    """Per image and method the four measures; how alike the two halves of the reference are."""

    head: str
    permutations: int

    name: ClassVar[str] = "closeness"

    def map(self, models: Sequence[ox.Model], batch: Batch) -> Partial:
        """Return the measures of a batch, [n, methods, 4] and [n]."""
        answers = Answers(models[0], batch.x)
        halves = np.stack(
            [sampled(answers, i, self.head, self.permutations) for i in range(len(answers))]
        )
        shap = halves.mean(1)
        rise = shap.sum(1)  # every order is efficient
        values = np.empty((len(answers), len(METHODS), len(MEASURES)))
        for e, kind in enumerate(METHODS):
            w = ox.cam(answers.model, answers.feeds, answers.classes, kind).weights
            assert w is not None
            values[:, e] = np.stack(
                [
                    shap_cosine(w, shap),
                    shap_spearman(w, shap),
                    shap_distance(w, shap),
                    efficiency_residual(w, rise),
                ],
                axis=1,
            )
        return {"values": values, "halves": shap_cosine(halves[:, 0], halves[:, 1])}

    def merge(self, a: Partial, b: Partial) -> Partial:
        """Return the rows of both."""
        return {name: np.concatenate([a[name], b[name]]) for name in a}

    def key(self) -> Any:
        """Return the settings."""
        return [self.head, self.permutations, METHODS]


def sampled(answers: Answers, i: int, head: str, permutations: int) -> Array:
    """Return Shapley values of image i's channels from the two halves of the orders, [2, K]."""
    model = answers.model
    layer = model.layer(None)
    feeds = model.rows(answers.feeds, [i])
    a = model.values(feeds, (layer.name,))[layer.name]
    c, k = int(answers.classes[i]), int(layer.channels or 0)

    def running(keep: Array) -> Array:
        return model.ablation(layer).run(a, keep, feeds=feeds)[:, c].astype(np.float64)

    def through_the_file(order: Array) -> Array:
        keep = np.zeros((k + 1, k))
        keep[:, order] = np.tri(k + 1, k, -1)
        return running(keep)

    prefix: Prefix = through_the_file
    if head != "any":
        prefix = _sums(model, channels_first(a, layer)[0], c, head)
        order = np.random.default_rng(1).permutation(k)
        keep = np.zeros((3, k))
        for row, count in zip(keep, (0, k // 2, k), strict=True):
            row[order[:count]] = 1
        theirs = running(keep)
        close = 5e-3 if a.dtype == np.float16 else 1e-3  # of what the file's own floats can tell
        np.testing.assert_allclose(
            prefix(order)[[0, k // 2, k]], theirs, rtol=close, atol=close * np.abs(theirs).max()
        )
    rng, halves = np.random.default_rng(0), np.zeros((2, k))
    pairs = max(1, permutations // 4)
    for half in halves:
        for _ in range(pairs):
            order = rng.permutation(k)
            half[order] += np.diff(prefix(order))
            half[order[::-1]] += np.diff(prefix(order[::-1]))
    return halves / (2 * pairs)


def _sums(model: ox.Model, a: Array, c: int, head: str) -> Prefix:
    """Return the prefix scores of a head by cumulative sums; a [K, h, w] in float64."""
    assert model.path is not None
    by_shape = {
        tuple(t.dims): numpy_helper.to_array(t).astype(np.float64)
        for t in onnx.load(model.path).graph.initializer
    }
    k, flat = len(a), a.reshape(len(a), -1).astype(np.float64)
    if head == "conv":  # mean over positions of relu(w_c A + b_c)
        adds, bias = by_shape[1000, k, 1, 1][c].reshape(-1, 1) * flat, by_shape[1000,][c]
        ends = np.full(flat.shape[1], 1 / flat.shape[1])
    else:  # relu(W mean(A) + b) w_c
        adds, bias = flat.mean(1)[:, None] * by_shape[k, 100], by_shape[100,]
        ends = by_shape[100, 2][:, c]
    adds = adds.astype(np.float32)

    def prefix(order: Array) -> Array:
        before = np.zeros((k + 1, adds.shape[1]), np.float32)
        np.cumsum(adds[order], axis=0, out=before[1:], dtype=np.float32)
        before += np.float32(bias) if head == "conv" else bias.astype(np.float32)
        return np.maximum(before, 0, out=before) @ ends

    return prefix


def main() -> None:
    """Print and write the section."""
    parser = options(__doc__, 40)
    parser.add_argument("--large", type=int, default=20, help="images of the ImageNet-sized models")
    parser.add_argument("--permutations", type=int, default=1000)
    parser.add_argument("--timed", type=int, default=3, help="images to time each method on")
    given = parser.parse_args()
    names = chosen(list(MODELS), given.files)
    models = [load(name, given.threads) for name in names]
    lines = provenance(models)
    best: dict[str, list[str]] = {measure: [] for measure in MEASURES[:2]}
    for name, model in zip(names, models, strict=True):
        head = MODELS[name]
        count = given.images if head == "any" else given.large
        images = pictures(name, count)
        found = run(given.cache).over(images, model, Closeness(head, given.permutations)).partial
        values = found["values"]
        times = {kind: timed(model, images[: given.timed], kind) for kind in METHODS}
        marks = [_winner(values[:, :, k], k in (2, 3)) for k in range(4)]
        for measure, mark in zip(MEASURES[:2], marks[:2], strict=True):
            best[measure].append(mark[1])
        rows = [
            (kind, *(_cell(values[:, e, k], kind in marks[k][0]) for k in range(4)), times[kind])
            for e, kind in enumerate(METHODS)
        ]
        columns = ("coefficients", "cosine ↑", "Spearman ↑", "relative distance ↓",
                   "efficiency residual ↓", "ms per map")  # fmt: skip
        caption = (
            f"{name}, images: {len(values)}, K = {model.layer(None).channels}, cosine of halves "
        )
        table = Table(columns, tuple(rows), caption + f"{found['halves'].mean():.4f}")
        lines += markdown(table)
    lines += ["### Verdict", ""]
    for measure, winners in best.items():
        who = {w: winners.count(w) for w in dict.fromkeys(winners)}
        said = ", ".join(f"{w} on {n}" for w, n in who.items())
        lines.append(
            f"- By {measure} the closest is (* tied within p >= 0.05): {said} of {len(names)} models."
        )
    publish(
        "shapley", "Are LIFT-CAM's coefficients the closest to Shapley values?", lines, given.write
    )


def timed(model: ox.Model, images: Sequence[Any], kind: str) -> float:
    """Return the median milliseconds of a map of one image."""
    inputs, found = [model.read([image]) for image in images], []
    for x in inputs[:1] + inputs if inputs else []:
        begun = time.perf_counter()
        ox.cam(model, x, kind=kind)
        found.append(1000 * (time.perf_counter() - begun))
    return float(np.median(found[1:])) if len(found) > 1 else float("nan")


def _winner(values: Array, down: bool) -> tuple[list[str], str]:
    """Return the methods that are best or tied with the best, and how to call the best one."""
    means = values.mean(0)
    best = int((means if down else -means).argmin())
    others = [e for e in range(len(METHODS)) if e != best]
    p = holm([paired(values[:, e], values[:, best]) for e in others])
    tied = [METHODS[e] for e, one in zip(others, p, strict=True) if one >= 0.05]
    return [METHODS[best], *tied], METHODS[best] + ("*" if tied else "")


def _cell(values: Array, best: bool) -> str:
    mean, low, high = map(short, interval(values))
    return f"{mean} [{low}, {high}]{' *' if best else ''}"


if __name__ == "__main__":
    main()

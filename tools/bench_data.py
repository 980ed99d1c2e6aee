"""What passes over data cost: threads against processes, memory over 50,000 images, and exact importance.

    python -m tools.bench_data engines
    python -m tools.bench_data memory
    python -m tools.bench_data ablation

Real images are found through ONNXPLAIN_SHARED (default ../shared). Ratios are medians of interleaved runs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

import onnxplain as ox
from onnxplain import bundled
from onnxplain.ablation import ROWS
from onnxplain.dataset import Item, Job, Partial, Run, Source, open_data
from onnxplain.dataset.items import read_item
from onnxplain.dataset.labels import Numbering
from onnxplain.dataset.run import _pieces
from onnxplain.dataset.worker import Done, Piece, work
from onnxplain.graph.paths import needed
from onnxplain.methods.correlation import Correlation
from onnxplain.methods.importance import Ablate

SHARED = Path(os.environ.get("ONNXPLAIN_SHARED", "../shared")) / "data"
TRAINING = SHARED / "images/cifar10_train_jpeg.npz"
PHOTOS = SHARED / "images/imagenet_sample"
CIFAR = {"preset": "imagenet", "resize": "none"}
CORES = os.cpu_count() or 1
REPEATS = 5


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["engines", "memory", "ablation"])
    {"engines": engines, "memory": memory, "ablation": ablation}[parser.parse_args().what]()


def interleaved(ways: dict[str, Callable[[], object]], repeats: int = REPEATS) -> dict[str, float]:
    """Return the median seconds of each way, run in turn; the first turn does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            if turn:
                seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(found) for name, found in seconds.items()}


# --- threads and processes ----------------------------------------------------------------------------
class First(Source):
    """The first items of another source."""

    def __init__(self, source: Source, count: int) -> None:
        """Take the source and how many."""
        self.name, self._source, self._count = source.name, source, count

    def __len__(self) -> int:
        """Return how many."""
        return self._count

    def item(self, number: int) -> Item:
        """Return an item."""
        return self._source.item(number)

    def key(self) -> str:
        """Return what tells it from others."""
        return f"{self._source.key()}[:{self._count}]"


_models: Sequence[ox.Model] = ()


def _start(models: Sequence[ox.Model]) -> None:
    global _models
    _models = models


def _work(job: Job, piece: Piece) -> Done:
    return work(_models, job, piece)


def by_processes(pool: ProcessPoolExecutor, model: ox.Model, data: Source, job: Job) -> None:
    """Do what `Run` does, by processes: pieces go out and partials come back, a few at a time."""
    pieces = _pieces(data, Numbering(data, model), 0, 32)
    waiting = [pool.submit(_work, job, piece) for piece in islice(pieces, CORES + 1)]
    total: Partial | None = None
    while waiting:
        done = waiting.pop(0).result().partial
        assert done is not None
        total = done if total is None else job.merge(total, done)
        waiting += [pool.submit(_work, job, piece) for piece in islice(pieces, 1)]


def engines() -> None:
    """Time one job by threads that share a model, and by processes that each hold one."""
    print("| model | images | way | images/s | against 1 thread |")
    print("|---" * 5 + "|")
    for path, settings, data, count in (
        (bundled.model_path(), None, TRAINING, 2000),
        (SHARED / "models/cifar10/resnet20.onnx", CIFAR, TRAINING, 2000),
        (SHARED / "models/imagenet/mobilenet_v2_torchvision_float.onnx", "imagenet", PHOTOS, 100),
    ):
        items = First(open_data(data), count)
        one = ox.load(path, device="cpu", preprocess=settings, threads=1)
        all_cores = ox.load(path, device="cpu", preprocess=settings)
        job = Correlation(tuple(layer.name for layer in one.graph.levels[::-1]))

        def threads(
            model: ox.Model, workers: int, items: Source = items, job: Job = job
        ) -> Callable[[], object]:
            return lambda: Run(workers=workers).over(items, model, job)

        context = get_context("spawn")
        with ProcessPoolExecutor(CORES, context, _start, ((one,),)) as pool:
            found = interleaved(
                {
                    "1 thread": threads(one, 1),
                    f"1 thread, {CORES} inside onnxruntime": threads(all_cores, 1),
                    f"{CORES} threads": threads(one, CORES),
                    f"{CORES} threads, {CORES} inside onnxruntime (default)": threads(
                        all_cores, CORES
                    ),
                    f"{CORES} processes": partial(by_processes, pool, one, items, job),
                }
            )
        for way, seconds in found.items():
            ratio = found["1 thread"] / seconds
            print(
                f"| {path.name} | {count} | {way} | {count / seconds:.0f} | {ratio:.2f} |",
                flush=True,
            )


# --- memory -------------------------------------------------------------------------------------------
def resident() -> float:
    """Return this process's memory in MiB, mapped files apart."""
    status = Path("/proc/self/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return int(fields["RssAnon"].split()[0]) / 1024


def memory() -> None:
    """Stream 50,000 images through one job and print how memory goes."""
    model = ox.load(bundled.model_path(), device="cpu")
    points: list[tuple[int, float]] = []
    begin = time.perf_counter()

    def look(done: int, of: int) -> None:
        if done % 5000 < 32 and (not points or done - points[-1][0] > 100):
            points.append((done, resident()))
            print(
                f"| {done} of {of} | {points[-1][1]:.0f} | {time.perf_counter() - begin:.0f} |",
                flush=True,
            )

    print("| images | MiB | s |\n|---|---|---|")
    found = ox.feature_correlation(model, TRAINING, run=Run(progress=look))
    print(
        f"{found.images} images; from the second point to the last {points[-1][1] - points[1][1]:+.0f} MiB"
    )


# --- exact importance ---------------------------------------------------------------------------------
def ablation() -> None:
    """Time exact importance of all filters of a layer against what the rest's share of a forward predicts."""
    model = ox.load(bundled.model_path(), device="cpu")
    source = open_data(SHARED / "images/cifar10_test_lossless.npz")
    x = np.concatenate([read_item(source.item(i), model) for i in range(400)])
    nodes, logit = model.graph.nodes.nodes, model.graph.logit.tensor
    feeds = {model.graph.source.name: x}
    whole = sum(map(products, nodes))
    print("| layer | filters | rest / forward | predicted s | measured s | ratio |")
    print("|---" * 6 + "|")
    for layer in model.graph.levels[::-1]:
        filters = layer.channels or 0
        share = sum(map(products, needed(nodes, [logit], stop=[layer.name]))) / whole
        job = Ablate((layer.name,), (np.zeros(filters),), (~np.eye(filters, dtype=bool),))
        found = interleaved(
            {
                "forward": lambda: [
                    model.values(rows, (logit,)) for rows in model.batches(feeds, ROWS)
                ],
                "exact": lambda job=job: Run(workers=1).over(x, model, job),  # type: ignore[misc]
            },
            3,
        )
        predicted = found["forward"] * (1 + filters * share)
        print(
            f"| {layer.name} | {filters} | {share:.2f} | {predicted:.2f} | {found['exact']:.2f} "
            f"| {found['exact'] / predicted:.2f} |",
            flush=True,
        )


def products(node: Any) -> float:
    """Return the multiplications of a node for one image."""
    if node.op == "Conv":
        return float(np.prod(node.inputs[1].shape) * np.prod(node.outputs[0].shape[2:]))
    return float(np.prod(node.inputs[1].shape)) if node.op in ("Gemm", "MatMul") else 0.0


if __name__ == "__main__":
    main()

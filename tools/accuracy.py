"""Measure the accuracy of the real models on the images of data/, beside the figures of its INDEX.md.

    python -m tools.accuracy                       every file, every image (some minutes)
    python -m tools.accuracy --files squeezenet,mnist --limit 100

INDEX.md measured ImageNet on 1000 images, of which data/ holds the 500 of even class, and tinyvgg on ten
of which it holds one: a difference within `+-` (two standard errors of the smaller sample) is no finding.
Exit code 1 if a difference is larger.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import numpy as np

import onnxplain as ox
from tests.conftest import SHARED
from tests.real_models import REAL_MODELS, RealModel, samples

BATCH = 50


def main() -> int:
    """Print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", default="", help="parts of file names, by commas (all)")
    parser.add_argument("--limit", type=int, help="images per model (all)")
    chosen = parser.parse_args()
    if not (SHARED / "data").is_dir():
        parser.error(f"no data in {SHARED}: set ONNXPLAIN_SHARED")
    wanted = chosen.files.split(",")
    off = 0
    print(f"{'file':58}{'n':>5}  {'figure':9}{'measured':>9}{'INDEX':>8}{'+-':>6}  tied")
    for file, row in REAL_MODELS.items():
        if not row.accuracy or not any(part in file for part in wanted):
            continue
        for figure, n, measured, index, tied in measure(row, chosen.limit):
            margin = 200 * np.sqrt(max(index * (100 - index), 100) / 1e4 / n)
            far = abs(measured - index) > margin
            off += far
            mark = " FAR" if far else ""
            line = (
                f"{file:58}{n:5}  {figure:9}{measured:9.1f}{index:8.1f}{margin:6.1f}{tied:6}{mark}"
            )
            print(line, flush=True)
    return 1 if off else 0


def measure(row: RealModel, limit: int | None) -> Iterator[tuple[str, int, float, float, int]]:
    """Yield (figure, images, measured %, INDEX %, images with tied logits) for one file."""
    model = ox.load(row.path(SHARED), preprocess=row.pre, labels=row.labels)
    images, labels = samples(row.data, SHARED, limit)
    logits, tied = [], 0
    for start in range(0, len(images), BATCH):
        prediction = model.predict(model.read(images[start : start + BATCH]))
        logits.append(prediction.logits)
        tied += int((prediction.ties > 1).sum())
    ranked = np.argsort(-np.concatenate(logits), 1, kind="stable") - row.offset
    for figure, index in row.accuracy.items():
        hits = (ranked[:, : 5 if figure == "top5" else 1] == labels[:, None]).any(1)
        yield figure, len(labels), 100 * float(hits.mean()), index, tied


if __name__ == "__main__":
    sys.exit(main())

"""Compare input gradients of torchvision networks, exported and explained here, with PyTorch's in float64.

    python -m tools.parity                                     every net, TorchScript exporter
    python -m tools.parity --nets resnet18,vit_b_32 --exporter dynamo --inputs 5 --size 224
    python -m tools.parity --rows ROWS.json --write docs/parity.md      resumes where it was stopped

What the figures mean is said at the top of docs/parity.md. Exit code 1 where one failed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from tools.parity import page
from tools.parity.compare import compare
from tools.parity.dense import DETECTION, SEGMENTATION, detector, segmenter
from tools.parity.nets import DYNAMO, Net, classifier, classifiers, torch
from tools.parity.whole import whole_detector

WHOLE = "ssdlite320_mobilenet_v3_large+nms"
DENSE: dict[str, Callable[..., Net]] = {
    **dict.fromkeys(SEGMENTATION, segmenter),
    **dict.fromkeys(DETECTION, detector),
    WHOLE: whole_detector,
}
"""What is no classifier, and what makes it of name and size."""


def main() -> int:
    """Print the table, and write it where asked to; return the exit code."""
    chosen = arguments()
    torch.set_num_threads(1)
    rows = [] if chosen.rows is None else page.read(chosen.rows)
    done = {(row.net, row.exporter) for row in rows}
    export = {"exporter": chosen.exporter, "opset": chosen.opset, "unfused": chosen.unfused}
    print(*page.TITLES, sep=" | ", flush=True)
    for name in chosen.nets:
        if (name, chosen.exporter) in done:
            continue
        net = DENSE.get(name, classifier)(name, chosen.size)
        for row in compare(net, chosen.inputs or pictures(net), **export):
            print(*page.cells(row), sep=" | ", flush=True)
            rows.append(row)
        if chosen.rows is not None:
            page.save(chosen.rows, rows)
    if chosen.write is not None:
        chosen.write.write_text(page.render(rows, names()), encoding="utf-8")
    return 1 if any(row.verdict == "FAILED" for row in rows) else 0


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exporter", choices=("ts", "dynamo"), default="ts")
    parser.add_argument(
        "--nets", help="names, by commas (dynamo: one or more of each family, else all)"
    )
    parser.add_argument("--opset", type=int, help="of the export (the exporter's own)")
    parser.add_argument(
        "--inputs", type=int, help="random pictures (4 for small nets to 1 for large ones)"
    )
    parser.add_argument("--size", type=int, help="pixels (the net's own, see the page)")
    parser.add_argument("--unfused", action="store_true", help="keep BatchNormalization (ts only)")
    parser.add_argument(
        "--rows", type=Path, help="JSON file that rows are added to; what it has is skipped"
    )
    parser.add_argument("--write", type=Path, help="Markdown file to write")
    chosen = parser.parse_args()
    # torch.export refuses a whole detector: what is left after NonMaxSuppression has no fixed shape.
    dynamo = (*DYNAMO, *(name for name in DENSE if name != WHOLE))
    every = dynamo if chosen.exporter == "dynamo" else names()
    chosen.nets = every if chosen.nets is None else [n for n in chosen.nets.split(",") if n]
    if unknown := set(chosen.nets) - set(names()):
        parser.error(f"no such net: {', '.join(sorted(unknown))}; there are {', '.join(names())}")
    return chosen


def names() -> tuple[str, ...]:
    """Return every net's name."""
    return (*classifiers(), *DENSE)


def pictures(net: Net) -> int:
    """Return how many pictures a net of this size is compared on."""
    millions = net.parameters / 1e6
    return 4 if millions < 30 else 2 if millions < 100 else 1


if __name__ == "__main__":
    sys.exit(main())

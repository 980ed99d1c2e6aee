r"""Measure time and memory of onnxplain's methods beside the plain forward and beside PyTorch's tools.

    python -m tools.bench                                      all nets, printed
    python -m tools.bench --nets vgg16 --parts fast,same --rows rows.json
    python -m tools.bench --nets mobilenet_v2,cifar10/resnet20.onnx --parts others --rows rows.json \
        --python dianna=venv-dianna/bin/python --python openvino=venv-openvino/bin/python
    python -m tools.bench --nets "real models" --rows rows.json
    python -m tools.bench --nets "" --rows rows.json --write docs/benchmarks.md      the page alone

Parts: "fast" methods, "turns" (forward and gradient alone, once each in turn), "batch" (gradients of 16
images), "slow" methods (Score-CAM, Ablation-CAM: minutes), "same" (do results agree with PyTorch's?),
"memory" (peaks, start-up, growth over 1,000 images; processes of their own); only where named: "others", the
tools that explain ONNX files themselves. `--python` says which Python has them, each in an environment of its
own: `pip install torch==2.13.0`, then `pip install dianna==1.8.1 onnx onnxruntime`; `pip install
openvino_xai==1.1.0`. "real models" has one part: the files of ../shared/data, two minutes; one such file may
stand for a net in "others".

Needs torch 2.13.0, torchvision 0.28.0 (--no-deps), captum, grad-cam and onnx2torch. Nothing else should run
meanwhile.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from tests.conftest import SHARED
from tests.real_models import REAL_MODELS
from tools.bench import memory, others, page, real
from tools.bench.contenders import batch, ours, peers, same
from tools.bench.nets import NETS, SIZE, export
from tools.bench.timing import interleaved
from tools.parity.nets import torch

PARTS = ("fast", "turns", "batch", "slow", "same", "memory")
"""The parts that are measured unless others are named."""
NOTES = Path(__file__).with_name("notes.md")
"""What was tried and what falls short, in words: the end of the page."""


def main() -> None:
    """Measure what is asked for, print the page, and write it where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nets", default=",".join((*NETS, page.REAL)))
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--python", action="append", default=[], metavar="TOOL=PATH")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=60, help="of one net and part, about")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=1000, help="over which memory may grow")
    parser.add_argument(
        "--files", type=Path, help="folder for exported files; a temporary one if not given"
    )
    parser.add_argument("--rows", type=Path, help="JSON file of rows to add to")
    parser.add_argument("--write", type=Path, help="also write the page here")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = page.read(args.rows)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.files or Path(temporary)
        for net in filter(None, args.nets.split(",")):
            for part in ("real",) if net == page.REAL else filter(None, args.parts.split(",")):
                rows.setdefault(net, {})[part] = measure(net, part, folder, args)
                if args.rows:
                    page.save(args.rows, rows)
    text = page.render(rows, args.threads, NOTES.read_text(encoding="utf-8"))
    print(text)
    if args.write:
        args.write.write_text(text, encoding="utf-8")


def measure(net: str, part: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of one part."""
    if part == "real":
        return real.measure(args.threads)
    path = REAL_MODELS[net].path(SHARED) if net in REAL_MODELS else export(net, folder)
    if part == "same":
        return same(net, path, args.threads)
    if part == "others":
        x = real.picture(net) if net in REAL_MODELS else others.picture(SIZE)
        return others.measure(path, x, args.threads, dict(p.split("=", 1) for p in args.python))
    if part == "memory":
        theirs = memory.pytorch(net, args.threads)["peak"]
        images = args.images if net == "mobilenet_v2" else 0
        return {**memory.own(path, args.threads, images), "pytorch": theirs}
    if part == "turns":
        pair = {
            k: run for k, run in ours(path, args.threads, False) if k in ("forward", "gradient")
        }
        return interleaved(pair, 4 * args.rounds, args.seconds, settle=0)
    slow = part == "slow"
    if part == "batch":
        contenders = list(batch(net, path, args.threads))
    else:
        contenders = [*ours(path, args.threads, slow), *peers(net, path, slow)]
    if slow:
        return interleaved(dict(contenders), 1, args.seconds, settle=0)
    return interleaved(dict(contenders), args.rounds, args.seconds)


if __name__ == "__main__":
    main()

"""Write the zoo: `python -m tools.zoo --out tests/zoo/models [--only vit,unet]`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from tools.zoo import attention, blocks, classifiers, dense, quantised, written
from tools.zoo.style import Style

STYLES: list[Style] = [
    *classifiers.STYLES, *dense.STYLES, *attention.STYLES, *blocks.STYLES, *written.STYLES, *quantised.STYLES,
]  # fmt: skip
DEFAULT = Path(__file__).resolve().parents[2] / "tests" / "zoo" / "models"


def main() -> int:
    """Write the files, their samples and index.json; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=DEFAULT)
    parser.add_argument("--only", help="names, by commas (all)")
    chosen = parser.parse_args()
    only = None if chosen.only is None else set(chosen.only.split(","))
    if only and (unknown := only - {s.name for s in STYLES}):
        parser.error(f"no such style: {', '.join(sorted(unknown))}")
    chosen.out.mkdir(parents=True, exist_ok=True)
    index_path = chosen.out / "index.json"
    index = json.loads(index_path.read_text(encoding="utf-8")) if only else {}
    for style in STYLES:
        if only is None or style.name in only:
            index[style.name] = write(style, chosen.out)
            print(style.name, index[style.name]["maker"], flush=True)
    rows = {s.name: index[s.name] for s in STYLES if s.name in index}
    index_path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


def write(style: Style, out: Path) -> dict[str, object]:
    """Write one style; return its entry of the index."""
    path = out / f"{style.name}.onnx"
    path.unlink(missing_ok=True)
    sample = style.write(path)
    arrays = {f"in.{k}": v for k, v in sample.inputs.items()}
    arrays |= {f"out.{k}": v for k, v in sample.outputs.items()}
    for name, array in arrays.items():
        assert np.isfinite(array).all(), f"{style.name}: {name} is not finite"
    np.savez_compressed(path.with_suffix(".npz"), **arrays)
    entry: dict[str, object] = {"what": style.what, "maker": sample.maker, "peer": style.peer}
    return entry | ({"float_twin": style.float_twin} if style.float_twin else {})


if __name__ == "__main__":
    sys.exit(main())

"""The model and photos that come with onnxplain, in a checkout (models/) or an installed wheel."""

from __future__ import annotations

import json
from pathlib import Path

from onnxplain.errors import ModelError

_HERE = Path(__file__).resolve().parent


def folder() -> Path:
    """Return where the bundled files are; raises ModelError if the installation lacks them."""
    for candidate in (_HERE / "bundled", _HERE.parent / "models"):
        if (candidate / "manifest.json").is_file():
            return candidate
    raise ModelError("the bundled models are missing: install onnxplain from its wheel or checkout")


def model_path(name: str = "vgg_cifar10.onnx") -> Path:
    """Return the path of a bundled model."""
    return folder() / name


def photos() -> list[Path]:
    """Return the sample photos, in the manifest's order."""
    manifest = json.loads((folder() / "manifest.json").read_text(encoding="utf-8"))
    return [folder() / name for name in manifest["samples"]]

"""Settings and labels that travel with a model: beside its file or in its metadata."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnxplain.errors import ConfigError
from onnxplain.preprocess.settings import Preprocess, read_config
from onnxplain.preprocess.spec import InputSpec

SUFFIXES = (".onnxplain.toml", ".onnxplain.json")
PREPROCESS_KEY = "onnxplain.preprocess"
LABELS_KEY = "onnxplain.labels"
NAMES_KEY = "names"  # where Ultralytics' exporter writes a Python dict {0: 'person', ...}
MAX_NAMES = 1_000_000  # characters


def find(model_path: str | Path | None, metadata: Mapping[str, str]) -> Preprocess | None:
    """Find a model's pre-processing: the file beside it, then its metadata, else None.

    Args:
        model_path: the model file; "net.onnx" has "net.onnxplain.toml" or ".json" beside it.
        metadata: the model's metadata_props; key "onnxplain.preprocess" holds JSON.

    Raises:
        ConfigError: what was found is broken, or both files exist.
    """
    path, data = _sidecar(model_path)
    data.pop("labels", None)
    if path and data:
        return Preprocess.from_dict(data, f"file {path.name}")
    if PREPROCESS_KEY not in metadata:
        return None
    source = f"metadata_props[{PREPROCESS_KEY!r}]"
    settings = _json(metadata[PREPROCESS_KEY], source)
    if not isinstance(settings, dict):
        raise ConfigError(f"{source}: holds {type(settings).__name__}, not keys with values")
    return Preprocess.from_dict(settings, source)


def find_labels(
    model_path: str | Path | None, metadata: Mapping[str, str]
) -> tuple[str, ...] | None:
    """Find a model's class names, in class order; None when it has none.

    Looked for in this order: the key "labels" of the file beside the model (a list, or the name of
    a text file in the same folder with one label per line), metadata "onnxplain.labels" (a JSON
    list), metadata "names" (a dict from 0..n-1 to names). "names" is not ours: a value that is not
    such a dict means something else and is passed over.

    Raises:
        ConfigError: one of the first two is broken, or the text file lies outside the folder.
    """
    path, data = _sidecar(model_path)
    if path and "labels" in data:
        labels, source = data["labels"], f"{path.name}: labels"
        if isinstance(labels, str):
            labels = _label_lines(path.parent, labels)
        return _checked(labels, source)
    if LABELS_KEY in metadata:
        source = f"metadata_props[{LABELS_KEY!r}]"
        return _checked(_json(metadata[LABELS_KEY], source), source)
    return _names(metadata.get(NAMES_KEY, ""))


def read_labels(path: str | Path) -> tuple[str, ...]:
    """Read a text file with one class name per line, in class order; ConfigError when that fails."""
    file = Path(path).resolve()  # named by the user: a link may lead anywhere
    return _checked(_label_lines(file.parent, file.name), str(path))


def guess(spec: InputSpec) -> Preprocess:
    """Guess from type, layout and size when nothing says how to feed a model [ours].

    Integer inputs get raw pixels (int8: minus 128), grey and small ones (below 96 pixels) 0..1,
    larger colour ones "imagenet" in NCHW (PyTorch's habit) and "inception" in NHWC (TensorFlow's).
    A guess can be wrong: `source` starts with "guessed" so that callers can warn.
    """
    if not spec.is_picture:
        return Preprocess(source="none: the input is not a picture")
    settings: dict[str, Any]
    if spec.dtype.kind in "iu":
        settings = {"preset": "raw", "mean": 128 if spec.dtype == np.int8 else 0}
    elif spec.channels == 1 or 0 < spec.height < 96:
        settings = {"preset": "unit"}
    else:
        settings = {"preset": "imagenet" if spec.layout == "NCHW" else "inception"}
    shape = " x ".join(str(n) for n in spec.shape)
    why = f"guessed: preset {settings['preset']} for a {spec.dtype} {spec.layout} input {shape}"
    return Preprocess.from_dict(settings, why)


def _sidecar(model_path: str | Path | None) -> tuple[Path | None, dict[str, Any]]:
    """Return the file beside the model and what it holds; (None, {}) without one."""
    if model_path is None:
        return None, {}
    model = Path(model_path)
    found = [p for s in SUFFIXES if (p := model.with_name(model.stem + s)).exists()]
    if len(found) > 1:
        raise ConfigError(f"{found[0]} and {found[1].name} both exist: remove one of them")
    return (found[0], read_config(found[0])) if found else (None, {})


def _json(text: str, source: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: not valid JSON: {error}") from error


def _label_lines(folder: Path, name: str) -> list[str]:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ConfigError(f"labels file {name!r} lies outside the model's folder: move it there")
    try:
        return path.read_text(encoding="utf-8").rstrip().splitlines()
    except OSError as error:
        raise ConfigError(f"labels file {path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"labels file {path}: not UTF-8 text: {error}") from error


def _checked(labels: Any, source: str) -> tuple[str, ...]:
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ConfigError(f"{source}: must be a list of strings, one per class")
    if not labels:
        raise ConfigError(f"{source}: is empty; leave it out or list one name per class")
    return tuple(label.strip() for label in labels)


def _names(text: str) -> tuple[str, ...] | None:
    if len(text) > MAX_NAMES:
        return None
    try:
        names = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None
    if not isinstance(names, dict) or list(names) != list(range(len(names))):
        return None
    labels = tuple(names.values())
    return labels if labels and all(isinstance(label, str) for label in labels) else None

"""The file that says what to check: read, and every mistake in it found, with its line."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from onnxplain.checks.job import Setting
from onnxplain.checks.judge import Gate
from onnxplain.checks.kinds import KINDS, Statistic, settings_of
from onnxplain.checks.lines import line_of
from onnxplain.checks.options import Test, meant, number, one_of, text, whole
from onnxplain.checks.seen import Asked
from onnxplain.errors import ConfigError, OnnxplainError
from onnxplain.methods.registry import method_name
from onnxplain.preprocess import PRESETS

MOST = 1 << 15
"""Bytes of a file: nobody writes more by hand."""
FILES = ("model", "reference", "data", "annotations", "labels", "baseline")


@dataclass(frozen=True)
class Plan:
    """What to check, and of what.

    Attributes:
        name: of the file, for messages.
        model, reference, data, annotations, labels, baseline: paths, or what callers of `check` gave.
        preprocess, reference_preprocess: as for `load`.
        layer, device, images, skipped: of the config.
        gates, settings: per check what is asked of it, and how it is measured.
        where: a key of the file -> "file:line", to begin messages with.
    """

    name: str
    model: Any
    reference: Any = None
    data: Any = None
    annotations: Any = None
    labels: Any = None
    baseline: Any = None
    preprocess: Any = None
    reference_preprocess: Any = None
    layer: str | None = None
    device: str = "auto"
    images: int | None = None
    skipped: int = 0
    gates: tuple[Gate, ...] = ()
    settings: tuple[Setting, ...] = ()
    where: Callable[..., str] = field(default=lambda *path: "checks", compare=False)

    def needs(self, what: str) -> bool:
        """Return whether some check needs "reference", "annotations" or "untrained"."""
        return any(KINDS[g.kind].needs == what for g in self.gates)


def read_plan(source: str | Path | Mapping[str, Any], given: Mapping[str, Any]) -> Plan:
    """Read a file, or a mapping of its form; `given` goes before what it says of model, data and the like.

    Raises ConfigError with a line for each mistake.
    """
    if isinstance(source, Mapping):
        document, folder, name = dict(source), Path(), "checks"
        return _Reading(document, folder, lambda *path: "checks", name).plan(given)
    path = Path(source)
    try:
        if path.stat().st_size > MOST:
            raise ConfigError(f"{path}: is larger than {MOST} bytes: no file of checks")
        content = path.read_text(encoding="utf-8")
        document = tomllib.loads(content)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_syntax(path, str(error))) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not TOML in UTF-8: {error}") from error

    def where(*at: str | int) -> str:
        return str(path) if not at or at[0] in given else f"{path}:{line_of(content, at)}"

    return _Reading(document, path.parent, where, str(path)).plan(given)


def _syntax(path: Path, message: str) -> str:
    """Put the line in front: "Expected '=' after a key (at line 3, column 5)"."""
    what, found, at = message.partition(" (at line ")
    line = at.partition(",")[0] if found else ""
    return f"{path}:{line}: {what}" if line.isdecimal() else f"{path}:1: {message}"


class _Reading:
    """A document, and the mistakes found in it so far."""

    def __init__(
        self, document: dict[str, Any], folder: Path, where: Callable[..., str], name: str
    ) -> None:
        self.document, self.folder, self.where, self.name = document, folder, where, name
        self.mistakes: list[str] = []

    def plan(self, given: Mapping[str, Any]) -> Plan:
        self.table((), self.document, _TOP)
        found = {k: v for k, v in self.document.items() if k in _TOP and k != "check"}
        for key in FILES:
            if key not in given and isinstance(found.get(key), str):
                found[key] = self.file(key, found[key])
        for key in ("preprocess", "reference_preprocess"):
            value = found.get(key)
            if isinstance(value, str) and value not in PRESETS:
                found[key] = str(self.file(key, value))
        found |= given
        for key in ("model", "data"):
            if key not in found:
                self.wrong((), f"{key!r} is missing: name the {_TOP_SAYS[key]}")
        checks = self.document.get("check", [])
        entries: list[dict[str, Any]] = checks or [] if _tables(checks) is None else []
        if not entries and not self.mistakes:
            self.wrong((), "no checks: write [[check]] with kind = ... for each")
        read = [self.check(i, entry, found) for i, entry in enumerate(entries)]
        self.names([str(entry.get("name", entry.get("kind"))) for entry in entries])
        if self.mistakes:
            raise ConfigError("\n".join(dict.fromkeys(self.mistakes)))
        known = {f: found[f] for f in Plan.__dataclass_fields__ if f in found}
        gates, settings = zip(*(r for r in read if r is not None), strict=True)
        return Plan(self.name, **known, gates=gates, settings=settings, where=self.where)

    def wrong(self, path: tuple[str | int, ...], message: str) -> None:
        """Note a mistake."""
        self.mistakes.append(f"{self.where(*path)}: {message}")

    def table(
        self, path: tuple[str | int, ...], found: Mapping[str, Any], tests: Mapping[str, Test]
    ) -> None:
        """Note unknown keys, and values that do not pass their test."""
        for key, value in found.items():
            if key not in tests:
                self.wrong((*path, key), f"unknown key {key!r}{meant(key, list(tests))}")
            elif (complaint := tests[key](value)) is not None:
                self.wrong((*path, key), f"{key} {complaint}")

    def file(self, key: str, value: str) -> Path:
        """Return the path of a file, relative to the config's folder; note it where nothing is there."""
        path = self.folder / value
        if not path.exists():
            presets = f", nor one of {', '.join(PRESETS)}" if "preprocess" in key else ""
            self.wrong((key,), f"{key}: {path}: no such file{presets}")
        return path

    def check(
        self, i: int, entry: Mapping[str, Any], found: Mapping[str, Any]
    ) -> tuple[Gate, Setting] | None:
        """Read one of the checks; None where that is not possible."""
        at: tuple[str | int, ...] = ("check", i)
        before, name = len(self.mistakes), entry.get("kind")
        if name not in KINDS:
            if name is not None:
                self.wrong((*at, "kind"), f"kind {one_of(list(KINDS))(name)}")
                return None
            known = dict.fromkeys((*entry.keys() & _EVERY, "kind"), _anything)
            self.table(at, entry, known)
            if len(self.mistakes) == before:
                self.wrong(at, "a check without kind: choose " + ", ".join(KINDS))
            return None
        kind = KINDS[name]
        other = "max" if kind.key == "min" else "min"
        if other in entry:
            self.wrong((*at, other), f"{name} has no {other}: give {kind.key}")
        own = {k: o.test for k, o in kind.options.items()}
        self.table(at, entry, {**_CHECK, kind.key: number(*kind.limits), other: _anything, **own})
        threshold = entry.get(kind.key, None if "worse_by" in entry else kind.threshold)
        if len(self.mistakes) == before:  # what is missing may be there under a wrong name
            for key, option in kind.options.items():
                if option.default is None and key not in entry:
                    self.wrong(at, f"{name} needs {key}")
            if threshold is None and "worse_by" not in entry:
                self.wrong(at, f"{name} needs {kind.key} (or worse_by, with a baseline)")
            if kind.needs in FILES and found.get(kind.needs) is None:
                self.wrong(at, f"{name} needs {kind.needs!r}, which the file does not name")
        if self.mistakes:
            return None
        gate = Gate(
            str(entry.get("name", name)), name, threshold, entry.get("statistic", kind.statistic),
            entry.get("worse_by"), found.get("worst", 5),
        )  # fmt: skip
        method = method_name(entry.get("method", found.get("method", "lift-cam")))
        target = str(entry.get("target", found.get("target", "predicted")))
        layer = entry.get("layer", found.get("layer"))
        asked = Asked(method, target, {} if layer is None else {"model": layer})
        images = entry.get("images", kind.first)
        return gate, Setting(name, asked, settings_of(kind, entry), images)

    def names(self, names: list[str]) -> None:
        """Note two checks of one name: baselines and reports tell them apart by it."""
        for i, name in enumerate(names):
            if name in names[:i]:
                self.wrong(("check", i), f"a second check is called {name!r}: give it another name")


def _anything(_: Any) -> str | None:
    return None


def _method(value: Any) -> str | None:
    try:
        method_name(str(value))
    except OnnxplainError as error:
        return str(error).removeprefix("method ")
    return None


def _target(value: Any) -> str | None:
    return whole(0)(value) if isinstance(value, int) else text(value)


def _settings(value: Any) -> str | None:
    return None if isinstance(value, Mapping) else text(value)


def _tables(value: Any) -> str | None:
    fine = isinstance(value, list) and all(isinstance(v, Mapping) for v in value)
    return None if fine else "must be tables: write [[check]] before each"


_SHARED: dict[str, Test] = {"method": _method, "target": _target, "layer": text}
_TOP_SAYS = {"model": ".onnx file to check", "data": "pictures to check it on"}
_TOP: dict[str, Test] = {
    **dict.fromkeys(FILES, text),
    **_SHARED,
    "preprocess": _settings,
    "reference_preprocess": _settings,
    "device": one_of(("auto", "cpu", "cuda")),
    "images": whole(1),
    "skipped": whole(0),
    "worst": whole(0, 100),
    "check": _tables,
}
_CHECK: dict[str, Test] = {
    **_SHARED,
    "kind": text,
    "name": text,
    "statistic": one_of(get_args(Statistic)),
    "images": whole(1),
    "worse_by": number(0, float("inf")),
}
_EVERY = {*_CHECK, "min", "max", *(key for kind in KINDS.values() for key in kind.options)}

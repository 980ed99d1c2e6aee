"""What a run of checks found: a result per check, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from onnxplain.errors import CheckFailed

SCHEMA = 1
Status = Literal["passed", "failed", "not run"]


@dataclass(frozen=True)
class Bad:
    """One of the images that did worst: its number in the data, its name, its value, and a PNG, if drawn."""

    number: int
    name: str
    value: float
    png: bytes | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Result:
    """What came of one check.

    Attributes:
        name: what the user calls it; its kind by default.
        kind: a key of `KINDS`.
        status: "not run" is never a pass.
        reason: a sentence.
        value: the `statistic` of the images' values; None where there is none.
        threshold: what it was held against, a baseline considered.
        key: "min" or "max": which side of the threshold is good.
        statistic: mean, median or worst.
        images: how many were measured.
        baseline: the value of the run compared with, if any.
        worst: the worst images, first of all the worst.
    """

    name: str
    kind: str
    status: Status
    reason: str
    value: float | None = None
    threshold: float | None = None
    key: str = ""
    statistic: str = ""
    images: int = 0
    baseline: float | None = None
    worst: tuple[Bad, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether it was run and passed."""
        return self.status == "passed"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able data, pictures left out."""
        plain = {k: v for k, v in vars(self).items() if k != "worst"}
        worst = [{"number": b.number, "image": b.name, "value": b.value} for b in self.worst]
        return {**plain, "ok": self.ok, "worst": worst}


@dataclass(frozen=True)
class Report:
    """The results of all checks.

    Attributes:
        results: one per check, in the order of the file.
        meta: the models, data, versions and time; JSON-able.
    """

    results: tuple[Result, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every check was run and passed."""
        return bool(self.results) and all(r.ok for r in self.results)

    @property
    def exit_code(self) -> int:
        """0: passed; 1: a check failed; 2: none failed, but some could not be run."""
        failed = any(r.status == "failed" for r in self.results)
        return 0 if self.passed else 1 if failed else 2

    @property
    def verdict(self) -> str:
        """The verdict in words."""
        count = {
            s: sum(r.status == s for r in self.results) for s in ("passed", "failed", "not run")
        }
        parts = [f"{n} {s}" for s, n in count.items() if n]
        return (
            "passed" if self.passed else "FAILED" if self.exit_code == 1 else "COULD NOT RUN"
        ) + (f": {', '.join(parts)}")

    def raise_for_failure(self) -> None:
        """Raise CheckFailed, with the reasons, unless all passed."""
        if not self.passed:
            bad = [f"{r.name} {r.status}: {r.reason}" for r in self.results if not r.ok]
            raise CheckFailed("\n".join([f"checks {self.verdict}", *bad]))

    def __getitem__(self, name: str) -> Result:
        """Return the result of a check by its name; raises KeyError."""
        return {r.name: r for r in self.results}[name]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able data: schema, verdict, meta and results."""
        return {
            "onnxplain_check": SCHEMA,
            "passed": self.passed,
            "exit_code": self.exit_code,
            "verdict": self.verdict,
            **self.meta,
            "checks": [r.to_dict() for r in self.results],
        }

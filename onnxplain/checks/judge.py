"""The numbers of all images -> one value, held against a threshold: a result in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onnxplain.checks.kinds import KINDS, Kind, Statistic
from onnxplain.checks.report import Bad, Result
from onnxplain.dataset import Partial
from onnxplain.errors import OnnxplainError
from onnxplain.executor import Array


@dataclass(frozen=True)
class Gate:
    """What is asked of a check's value.

    threshold: None where only the baseline counts. worse_by: how much worse than the baseline it may be.
    worst: how many images are listed.
    """

    name: str
    kind: str
    threshold: float | None
    statistic: Statistic
    worse_by: float | None = None
    worst: int = 5


def judge(gate: Gate, index: int, partial: Partial, baseline: Mapping[str, float] | None) -> Result:
    """Return the result of check `index` of a pass. What could not be measured is "not run"."""
    kind = KINDS[gate.kind]
    if f"{index}.error" in partial:
        return not_run(gate, str(partial[f"{index}.error"][0]))
    if f"{index}.values" not in partial:
        return not_run(gate, "no image was measured")
    values = partial[f"{index}.values"]
    try:
        values = values if kind.across is None else kind.across(values)
    except OnnxplainError as error:
        return not_run(gate, str(error))
    measured = ~np.isnan(values)
    if not measured.any():
        why = (
            "annotated, and of the class explained" if kind.needs == "annotations" else "with a map"
        )
        return not_run(gate, f"there is no image to judge it by: none of {len(values)} is {why}")
    value = _value(values[measured], gate.statistic, kind)
    if not np.isfinite(value):
        return not_run(gate, f"its value is {value}")
    threshold, beside = gate.threshold, ""
    before = None if baseline is None else baseline.get(gate.name)
    if gate.worse_by is not None:
        if before is None:
            missing = (
                "no baseline was given" if baseline is None else "the baseline has no such check"
            )
            return not_run(gate, f"worse_by needs a value to compare with: {missing}")
        allowed = before - gate.worse_by if kind.better == "high" else before + gate.worse_by
        choose = max if kind.better == "high" else min
        threshold = allowed if threshold is None else choose(threshold, allowed)
        if threshold == allowed:
            beside = f" (the baseline's {_shown(before, kind)}, give or take {gate.worse_by:g})"
    assert threshold is not None, "the config file is checked for it"
    ok = bool(value >= threshold if kind.better == "high" else value <= threshold)
    worst: tuple[Bad, ...] = ()
    if kind.counts == "images" and not kind.alone:
        worst = _worst(values, partial[f"{index}.numbers"], partial, gate.worst, kind)
    side = "at least" if kind.better == "high" else "at most"
    counted = int(measured.sum())
    told = _told(kind, gate.statistic, value, counted)
    reason = f"{told}; {side} {_shown(threshold, kind)} was asked for{beside}"
    if not ok and worst:
        reason += f"; worst: {worst[0].name}"
        reason += "" if kind.share else f" ({worst[0].value:.4g})"
    return Result(
        gate.name, gate.kind, "passed" if ok else "failed", reason, value, threshold, kind.key,
        gate.statistic, counted, before, worst,
    )  # fmt: skip


def not_run(gate: Gate, reason: str) -> Result:
    """Return the result of a check that could not be run."""
    return Result(
        gate.name,
        gate.kind,
        "not run",
        reason,
        None,
        gate.threshold,
        KINDS[gate.kind].key,
        gate.statistic,
    )


def _value(values: Array, statistic: Statistic, kind: Kind) -> float:
    if statistic == "worst":
        return float(values.min() if kind.better == "high" else values.max())
    return float(np.median(values) if statistic == "median" else values.mean())


def _worst(
    values: Array, numbers: Array, partial: Partial, most: int, kind: Kind
) -> tuple[Bad, ...]:
    """Return the images that did worst; of a share those that count against it alone."""
    names = dict(zip(partial["numbers"].tolist(), partial["names"].tolist(), strict=True))
    bad = np.where(np.isnan(values), -np.inf, -values if kind.better == "high" else values)
    order = np.argsort(-bad, kind="stable")
    if kind.share:
        order = order[values[order] == (0 if kind.better == "high" else 1)]
    chosen = [i for i in order[:most].tolist() if not np.isnan(values[i])]
    return tuple(Bad(int(numbers[i]), names[int(numbers[i])], float(values[i])) for i in chosen)


def _told(kind: Kind, statistic: str, value: float, count: int) -> str:
    if kind.share and statistic == "mean":
        return f"{_shown(value, kind)} of {count} {kind.says}"
    of = "" if kind.alone else f" over {count} {kind.counts}"
    word = {"mean": "mean", "median": "median", "worst": "worst"}[statistic]
    head = kind.says if kind.alone else f"{word} {kind.says}"
    return f"{head}: {value:.4g}{of}"


def _shown(value: float, kind: Kind) -> str:
    return f"{100 * value:.4g}%" if kind.share else f"{value:.4g}"

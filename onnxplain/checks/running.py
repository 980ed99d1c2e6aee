"""Run the checks of a file: one pass over the data, a verdict, and the worst images drawn."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from onnxplain.checks.baseline import read_baseline
from onnxplain.checks.config import Plan, read_plan
from onnxplain.checks.job import Measuring, Setting
from onnxplain.checks.judge import judge
from onnxplain.checks.kinds import KINDS
from onnxplain.checks.match import Pair, at_layers, matched
from onnxplain.checks.pictures import draw_worst
from onnxplain.checks.report import Report
from onnxplain.checks.seen import MODEL, REFERENCE, UNTRAINED, Seen, View
from onnxplain.dataset import Batch, Data, First, Found, Run, Source, open_data, take
from onnxplain.dataset.annotations import open_annotations
from onnxplain.errors import ConfigError, InputError, OnnxplainError
from onnxplain.methods.cam import CAMS
from onnxplain.model import Model, load

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Subject:
    """The models by their roles, the data, and the layers that two models have in common."""

    models: dict[str, Model]
    data: Source
    pairs: tuple[Pair, ...] = ()

    @property
    def first(self) -> Batch:
        """The first image that can be read, alone; raises InputError without one."""
        for number in range(len(self.data)):
            batch = take(self.data, list(self.models.values()), number)
            if batch is not None:
                return batch
        raise InputError(f"{self.data.name}: none of {len(self.data)} items can be read")


def check(
    config: str | Path | Mapping[str, Any],
    *,
    model: Model | str | Path | None = None,
    reference: Model | str | Path | None = None,
    data: Data | None = None,
    baseline: str | Path | None = None,
    run: Run | None = None,
) -> Report:
    """Run the checks of a TOML file (docs/checks.md), or of a mapping of its form; return what they found.

    model, reference, data, baseline: go before what the file says. run: how to pass over the data; by default
    in this process, nothing kept.

    What a check finds never raises: `Report.passed`, `.raise_for_failure()`. Raises ConfigError with a line
    for each mistake in the file, and ModelError, InputError where models or data cannot be used.
    """
    begin = time.monotonic()
    given = {"model": model, "reference": reference, "data": data, "baseline": baseline}
    plan = read_plan(config, {k: v for k, v in given.items() if v is not None})
    run = run or Run()
    before = None if plan.baseline is None else _located(plan, "baseline", read_baseline)
    subject = _subject(plan)
    settings = tuple(_at_layers(i, s, subject, plan) for i, s in enumerate(plan.settings))
    notes = None if plan.annotations is None else _located(plan, "annotations", open_annotations)
    devices = tuple(m.executor.device for m in subject.models.values())
    job = Measuring(settings, tuple(subject.models), notes, devices)
    found = run.over(subject.data, list(subject.models.values()), job)
    _check_skipped(plan, found)
    partial = dict(found.partial)
    first = Seen(subject.models, subject.first, notes)
    for i, setting in enumerate(settings):
        if KINDS[setting.kind].alone:
            partial |= _measured_alone(i, setting, first)
    results = [judge(gate, i, partial, before) for i, gate in enumerate(plan.gates)]
    results = draw_worst(results, settings, subject.models, subject.data, notes)
    return Report(tuple(results), _meta(plan, subject, found, time.monotonic() - begin))


def _subject(plan: Plan) -> Subject:
    """Load the models and open the data; raises ConfigError with the line of the key."""
    models = {MODEL: _loaded(plan, "model", plan.preprocess)}
    if plan.reference is not None:
        models[REFERENCE] = _loaded(plan, "reference", plan.reference_preprocess or plan.preprocess)
        found, other = (models[r].classes or "no" for r in (MODEL, REFERENCE))
        if found != other:
            at = plan.where("reference")
            raise ConfigError(f"{at}: reference: has {other} classes, the model {found}")
    if plan.needs(UNTRAINED):
        models[UNTRAINED] = models[MODEL].shuffled()
    source = _located(plan, "data", lambda d: open_data(d, models[MODEL].spec.is_picture))
    if not len(source):
        raise ConfigError(f"{plan.where('data')}: data: {source.name} is empty")
    source = source if plan.images is None else First(source, plan.images)
    subject = Subject(models, source)
    if REFERENCE not in models or not any(s.asked.method in CAMS for s in plan.settings):
        return subject
    return replace(subject, pairs=matched(models[REFERENCE], models[MODEL], source))


def _at_layers(i: int, setting: Setting, subject: Subject, plan: Plan) -> Setting:
    """Return check `i` with its layers in both files; raises ConfigError for an unknown one."""
    named = setting.asked.layers.get(MODEL)
    model, reference = subject.models[MODEL], subject.models.get(REFERENCE)
    if reference is not None:
        asked = at_layers(setting.asked, reference, subject.pairs, model)
        setting = replace(setting, asked=asked)
    if named is not None and setting.asked.method in CAMS:
        try:
            model.layer(setting.asked.layers[MODEL])
        except OnnxplainError as error:
            at = ("layer",) if named == plan.layer else ("check", i, "layer")
            raise ConfigError(f"{plan.where(*at)}: layer: {error}") from error
    return setting


def _loaded(plan: Plan, key: str, preprocess: Any) -> Model:
    value = getattr(plan, key)
    if isinstance(value, Model):
        return value
    return _located(
        plan,
        key,
        lambda v: load(v, device=plan.device, preprocess=preprocess, labels=plan.labels),  # type: ignore[arg-type]
    )


def _located(plan: Plan, key: str, read: Callable[[Any], T]) -> T:
    """Return what `read` makes of what stands behind a key; raises ConfigError with its line."""
    try:
        return read(getattr(plan, key))
    except OnnxplainError as error:
        raise ConfigError(f"{plan.where(key)}: {key}: {error}") from error


def _check_skipped(plan: Plan, found: Found) -> None:
    if len(found.skipped) > plan.skipped:
        raise InputError(
            f"{plan.where('data')}: data: {len(found.skipped)} items cannot be used, {plan.skipped} may "
            f"(skipped = {plan.skipped}); first: {found.skipped[0].reason}"
        )


def _measured_alone(i: int, setting: Setting, first: Seen) -> dict[str, Any]:
    try:
        values = KINDS[setting.kind].measure(View(first, setting.asked, setting.options))
    except OnnxplainError as error:
        return {f"{i}.error": np.array([str(error)])}
    return {f"{i}.values": values, f"{i}.numbers": first.batch.numbers}


def _meta(plan: Plan, subject: Subject, found: Found, seconds: float) -> dict[str, Any]:
    own = subject.models[MODEL].meta("check")
    meta = {"config": plan.name, "model": own["model"], "sha256": own["sha256"]}
    if REFERENCE in subject.models:
        other = subject.models[REFERENCE].meta("check")
        meta["reference"] = {"model": other["model"], "sha256": other["sha256"]}
        meta["layers"] = [vars(p) for p in subject.pairs]
    return {
        **meta,
        **found.meta,
        "preprocess": own["preprocess"],
        "baseline": None if plan.baseline is None else str(plan.baseline),
        "providers": list(subject.models[MODEL].providers),
        "versions": own["versions"],
        "seconds": round(seconds, 2),
    }

"""A report, or a comparison, as one HTML page with the worst images side by side."""

from __future__ import annotations

from collections.abc import Sequence

from onnxplain.checks.report import Report, Result
from onnxplain.dataset import Data, open_data, take
from onnxplain.hierarchy.names import visible
from onnxplain.model import Model
from onnxplain.render.report import Picture, Section, Table
from onnxplain.results.comparison import Comparison

LISTED = 100
"""Images in a page's table; the .csv has all."""


def check_sections(report: Report) -> list[Section]:
    """Return what the page of a report shows: the verdict, then a section per check, failures first."""
    meta = report.meta
    facts = [
        f"{meta.get('model')} (sha256 {str(meta.get('sha256'))[:16]}…) on {meta.get('images')} images"
    ]
    if "reference" in meta:
        facts.append(f"reference: {meta['reference']['model']}")
    facts.append(f"data: {meta.get('data')}; {meta.get('skipped', 0)} items skipped")
    facts.append(f"pre-processing: {meta.get('preprocess')}")
    rows = tuple(
        (
            r.name,
            r.status,
            r.value,
            "" if r.threshold is None else f"{r.key} {r.threshold:.4g}",
            r.baseline,
        )
        for r in report.results
    )
    table = Table(("check", "result", "value", "asked", "baseline"), rows)
    first = Section(f"Verdict: {report.verdict}", tuple(facts), (table,), verdict=report.passed)
    ordered = sorted(
        report.results, key=lambda r: {"failed": 0, "not run": 1, "passed": 2}[r.status]
    )
    return [first, *map(_section, ordered)]


def _section(result: Result) -> Section:
    pictures = tuple(
        Picture(b.png, f"{visible(b.name)}: {b.value:.4g}")
        for b in result.worst
        if b.png is not None
    )
    rows = tuple((visible(b.name), b.number, b.value) for b in result.worst)
    tables = (Table(("worst images", "number", "value"), rows),) if rows else ()
    title = f"{result.name}: {result.status}"
    return Section(title, (result.reason,), tables, pictures, verdict=result.ok)


def comparison_table(found: Comparison) -> Table:
    """Return all images, worst first."""
    columns = ["image", "A predicts", "B predicts", *(n.replace("_", " ") for n in found.measures)]
    rows = []
    for i in found.order.tolist():
        measured = (float(v[i]) for v in found.measures.values())
        rows.append((visible(found.names[i]), *map(_named, found.predicted(i)), *measured))
    return Table(tuple(columns), tuple(rows))


def _named(label: str | None) -> str | None:
    return None if label is None else visible(label)


def summary_table(found: Comparison) -> Table:
    """Return median, mean and worst of each measure."""
    rows = tuple((n.replace("_", " "), *v.values()) for n, v in found.summary().items())
    return Table(("measure", "median", "mean", "worst"), rows)


def comparison_sections(
    found: Comparison, models: tuple[Model, Model], data: Data, drawn: int = 6
) -> list[Section]:
    """Return what the page of a comparison shows: overall, the worst images with both maps, the layers."""
    meta = found.meta
    asked = "the class that A predicts" if meta["target"] == "predicted" else meta["target"]
    text = (
        f"A: {meta['model']}",
        f"B: {meta['other']['model']}",
        f"{found.verdict}. Data: {meta['data']}, {meta['skipped']} items skipped.",
        f"Maps: {meta['maps'].replace('_', '-')}, of {asked}.",
    )
    table = comparison_table(found)
    shown = Table(
        table.columns, table.rows[:LISTED], f"worst first, {min(LISTED, len(table.rows))} shown"
    )
    layers = tuple((p["a"], p["b"], p["similarity"]) for p in found.layers)
    pictures = tuple(_pictures(found, models, data, drawn))
    return [
        Section("Overall", text, (summary_table(found),)),
        Section("Worst images", (), (), pictures),
        Section("All images", (), (shown,)),
        Section(
            "Layers",
            ("Correlation of the activations of layers that hold the same, from input to output: where it "
             "falls, drift begins.",),
            (Table(("A", "B", "similarity"), layers),),
        ),
    ]  # fmt: skip


def _pictures(
    found: Comparison, models: tuple[Model, Model], data: Data, count: int
) -> Sequence[Picture]:
    """Draw the worst images, where the models take pictures."""
    from onnxplain.checks.comparing import view_of
    from onnxplain.checks.pictures import drawn, look_at_all

    if not models[1].spec.is_picture:
        return []
    source, pictures = open_data(data), []
    for i in found.order[:count].tolist():
        batch = take(source, models, int(found.numbers[i]))
        if batch is not None:
            view = view_of(models, found, batch)
            look_at_all(view)
            title = f"{visible(found.names[i])}: rank correlation {found.rank_correlation[i]:.3f}"
            png = drawn(view, title, {"reference": "A", "model": "B"})
            pictures.append(Picture(png, title))
    return pictures

"""An evaluation as tables, a model each: means with their intervals, marks for what is best."""

from __future__ import annotations

from onnxplain.metrics.statistics import Standing, standings
from onnxplain.render.report import Table
from onnxplain.results.evaluation import Evaluation

ARROWS = {"up": "↑", "down": "↓", "zero": "→0"}
NOTE = (
    "Means over images with bootstrap intervals of 95 %. * best, or not significantly worse than the best: "
    "paired sign-flip test over the same images, Holm-corrected, p >= 0.05."
)


def tables(found: Evaluation) -> tuple[Table, ...]:
    """Return a table per model: a row per method, a column per metric, then what a map costs."""
    known = {(s.model, s.method, s.metric): s for s in standings(found)}
    pairs = zip(found.metrics, found.better, strict=True)
    titles = [f"{metric} {ARROWS[better]}" for metric, better in pairs]
    return tuple(
        Table(
            ("method", *titles, "ms/image", "forwards"),
            tuple(
                (
                    method,
                    *(cell(known[model, method, metric]) for metric in found.metrics),
                    *(float(v) for v in found.cost(method, model)),
                )
                for method in found.methods
            ),
            f"{model}, images: {len(found.images)}",
        )
        for model in found.models
    )


def long_table(found: Evaluation) -> Table:
    """Return a row per model, method and metric, in full, to be read by other programs."""
    rows = [
        (
            s.model, s.method, s.metric, s.images, *(s.interval or (None,) * 3), s.p, s.best,
            *found.cost(s.method, s.model),
        )
        for s in standings(found)
    ]  # fmt: skip
    columns = (
        "model", "method", "metric", "images", "mean", "low", "high", "p", "best", "ms", "forwards",
    )  # fmt: skip
    return Table(columns, tuple(rows))


def cell(standing: Standing) -> str:
    """Return "mean [low, high]" with its mark, or a dash."""
    if standing.interval is None:
        return "–"
    mean, low, high = (short(v) for v in standing.interval)
    return f"{mean} [{low}, {high}]{' *' if standing.best else ''}"


def short(value: float) -> str:
    """Return three significant digits, without an exponent where it can be."""
    if value == 0 or 0.001 <= abs(value) < 1000:
        digits = 3 if abs(value) < 1 else 2 if abs(value) < 10 else 1
        return f"{value:.{digits}f}"
    return f"{value:.1e}"

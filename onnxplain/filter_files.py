"""Study the filters of a model over a data set and write what was found: records, tables, plots, a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxplain.dataset import Data, Run
from onnxplain.files import write_bytes, write_text
from onnxplain.graph.layers import Layer
from onnxplain.methods.correlation import feature_correlation
from onnxplain.methods.importance import (
    Base,
    Mode,
    filter_importance,
    group_importance,
    removal_curves,
)
from onnxplain.model import Model
from onnxplain.render import plots
from onnxplain.render.report import Picture, Section, Table, write_report
from onnxplain.results.filters import (
    FeatureCorrelation,
    FilterImportance,
    LayerImportance,
    RemovalCurves,
    spearman,
)

Array = np.ndarray[Any, Any]
FEW = 30
"""Below so many images correlations are mostly chance, and that is said."""
TOP = 10
"""Filters and groups named per layer in the report; the table on disk has all of them."""


@dataclass(frozen=True)
class FilterStudy:
    """What was found of a model's filters.

    Attributes:
        correlation: of features.
        importance: of filters, in the mode asked for.
        first_order: the same to first order, where the former is exact.
        groups: importance of the largest groups of filters that go together, by layer.
        curves: what is left when filters are removed, by layer.
    """

    correlation: FeatureCorrelation
    importance: FilterImportance
    first_order: FilterImportance | None
    groups: dict[str, LayerImportance]
    curves: dict[str, RemovalCurves]

    def ranks_agree(self, layer: str) -> float | None:
        """Return Spearman's rho of first-order and exact effects of a layer; None without both."""
        if self.first_order is None:
            return None
        return spearman(self.importance[layer].effect, self.first_order[layer].effect)


def study_filters(
    model: Model,
    data: Data,
    layers: Sequence[Layer | str] | None = None,
    mode: Mode = "exact",
    base: Base = "zero",
    curves: bool = True,
    threshold: float = 0.9,
    run: Run | None = None,
) -> FilterStudy:
    """Correlate features and measure the importance of filters; arguments as for the functions that do."""
    run = run or Run()
    importance = filter_importance(model, data, layers, mode, base, run)
    exact = mode == "exact"
    correlation = feature_correlation(model, data, layers, run)
    groups: dict[str, LayerImportance] = {}
    found_curves: dict[str, RemovalCurves] = {}
    for layer in importance.layers if exact else ():
        together = (
            correlation.groups(layer.layer, threshold) if layer.layer in correlation.layers else ()
        )
        if together:
            groups[layer.layer] = group_importance(
                model, data, layer.layer, together[:TOP], base, run
            )
        if curves:
            found_curves[layer.layer] = removal_curves(model, data, layer, run=run)
    return FilterStudy(
        correlation=correlation,
        importance=importance,
        first_order=filter_importance(model, data, layers, "first_order", base, run)
        if exact
        else None,
        groups=groups,
        curves=found_curves,
    )


def doubts(study: FilterStudy) -> list[str]:
    """Return in sentences what to be wary of."""
    images = study.importance.images
    few = f"{images} images are few: correlations, groups and dead filters are mostly chance"
    return [few] if images < FEW else []


def write_study(study: FilterStudy, out: Path) -> list[Path]:
    """Write a study into a folder: records, `filters.csv`, plots where matplotlib is, `report.html`.

    Raises OutputError.
    """
    written = [
        study.correlation.save(out, "correlation"),
        study.importance.save(out, "importance"),
    ]
    if study.first_order is not None:
        written.append(study.first_order.save(out, "importance-first-order"))
    for i, curves in enumerate(study.curves.values()):
        written.append(curves.save(out, f"removal-{i + 1}"))
    table = out / "filters.csv"
    write_text(table, filter_table(study).csv())
    pictures = dict(_pictures(study)) if plots.available() else {}
    for stem, picture in pictures.items():
        written.append(out / f"{stem}.png")
        write_bytes(written[-1], picture.png)
    report = write_report(out / "report.html", _title(study), sections(study, pictures))
    return [*written, table, report]


def filter_table(study: FilterStudy) -> Table:
    """Return a row per filter: what it is worth and what it goes with."""
    columns = ("layer", "filter", "effect", "probability", "flips", "accuracy", "first_order",
               "mean", "deviation", "dead", "redundancy")  # fmt: skip
    rows: list[tuple[object, ...]] = []
    for layer in study.importance.layers:
        first = None if study.first_order is None else study.first_order[layer.layer].effect
        facts = [layer.effect, layer.probability, layer.flips, layer.accuracy, first]
        facts += _facts(study.correlation, layer.layer)
        for k in range(len(layer.effect)):
            rows.append((layer.layer, k, *(None if f is None else f[k].item() for f in facts)))
    return Table(columns, tuple(rows))


def _facts(correlation: FeatureCorrelation, layer: str) -> list[Array | None]:
    if layer not in correlation.layers:
        return [None] * 4
    of = correlation.of(layer)
    return [correlation.mean[of], correlation.deviation[of], correlation.dead(layer),
            correlation.redundancy(layer)]  # fmt: skip


def layer_table(study: FilterStudy) -> Table:
    """Return a row per layer that was correlated: the summary that a terminal shows."""
    columns = ("layer", "filters", "dead", "redundancy", "in groups", "most important", "effect",
               "first order ~ exact", "area between")  # fmt: skip
    rows: list[tuple[object, ...]] = []
    measured = {layer.layer: layer for layer in study.importance.layers}
    for name in dict.fromkeys([*study.correlation.layers, *measured]):
        known = name in study.correlation.layers
        layer = measured.get(name)
        best = None if layer is None else int(layer.ranking()[0])
        curves = study.curves.get(name)
        rows.append(
            (
                name,
                len(study.correlation.within(name))
                if known
                else len(layer.effect)
                if layer
                else None,
                int(study.correlation.dead(name).sum()) if known else None,
                float(study.correlation.redundancy(name).mean()) if known else None,
                sum(map(len, study.correlation.groups(name))) if known else None,
                None if best is None else f"filter {best}",
                None if layer is None or best is None else float(layer.effect[best]),
                None if layer is None else study.ranks_agree(name),
                None if curves is None else curves.area_between,
            )
        )
    return Table(columns, tuple(rows))


# --- the report ---------------------------------------------------------------------------------------
def sections(study: FilterStudy, pictures: dict[str, Picture]) -> list[Section]:
    """Return the sections of the report."""
    about = study.importance
    text = [
        f"{about.images} images of {about.meta['data']}; {about.meta['skipped']} could not be read.",
        f"Importance: {about.mode.replace('_', ' ')}; a filter is replaced by "
        f"{'0' if about.meta['base'] == 'zero' else 'its mean'}.",
    ]
    if about.right is not None:
        text.append(
            f"Accuracy with all filters: {about.right:.1%} of {about.labelled} labelled images."
        )
    if about.meta["labels_note"]:
        text.append(str(about.meta["labels_note"]))
    text += [f"{line[0].upper()}{line[1:]}." for line in doubts(study)]
    if not pictures:
        text.append("Plots are left out: they need matplotlib (pip install 'onnxplain[plot]').")
    own = [pictures[stem] for stem in ("cka",) if stem in pictures]
    found = [Section("Overview", tuple(text), (layer_table(study),), tuple(own))]
    for i, layer in enumerate(study.importance.layers, 1):
        shown = tuple(p for stem, p in pictures.items() if stem.endswith(f"-{i}"))
        found.append(Section(layer.layer, (), tuple(_layer_tables(study, layer)), shown))
    return found


def _layer_tables(study: FilterStudy, layer: LayerImportance) -> Iterator[Table]:
    columns = ("filter", "effect (logits)", "probability", "flips", "accuracy")
    facts = (layer.effect, layer.probability, layer.flips, layer.accuracy)

    def rows(chosen: Array) -> tuple[tuple[object, ...], ...]:
        return tuple((int(k), *(None if f is None else float(f[k]) for f in facts)) for k in chosen)

    ranking = layer.ranking()
    yield Table(columns, rows(ranking[:TOP]), "The most important filters")
    yield Table(columns, rows(ranking[::-1][: TOP // 2]), "The least important filters")
    together = study.groups.get(layer.layer)
    if together is not None and together.flips is not None:
        found = zip(together.groups, together.effect, together.flips, strict=True)
        listed = tuple((", ".join(map(str, g)), float(e), float(f)) for g, e, f in found)
        yield Table(
            ("filters that go together", "effect without all of them", "flips"), listed, "Groups"
        )


def _pictures(study: FilterStudy) -> Iterator[tuple[str, Picture]]:
    """Yield plots by the stem of their file; those of a layer end in its number."""
    correlation = study.correlation
    if len(correlation.layers) > 1:
        png = plots.matrix(correlation.cka, "CKA between layers", correlation.layers, limits=(0, 1))
        yield "cka", Picture(png, "Linear CKA between the features of the layers, 0 to 1.")
    for i, layer in enumerate(study.importance.layers, 1):
        if layer.layer in correlation.layers:
            order = correlation.order(layer.layer)
            r = correlation.within(layer.layer)[np.ix_(order, order)]
            title = f"correlation of the filters of {layer.layer}, clustered"
            png = plots.matrix(r, title, list(map(str, order)))
            caption = "Correlation between filters, those side by side that go together."
            yield f"correlation-{i}", Picture(png, caption)
        if layer.layer in study.curves:
            curves = study.curves[layer.layer]
            lines = dict(zip(curves.ORDERS, curves.agreement, strict=True))
            share = curves.removed / curves.removed[-1]
            png = plots.curves(
                {name: (share, line) for name, line in lines.items()},
                f"removing filters of {layer.layer}",
                "share of filters replaced",
                "share of images that keep their class",
                limits=(0, 1.02),
            )
            yield f"removal-{i}", Picture(png, "Predictions kept as filters are removed.")
        if study.first_order is not None:
            first = study.first_order[layer.layer].effect
            marked = np.isin(np.arange(len(first)), layer.ranking()[:5])
            png = plots.points(
                first, layer.effect, f"effects at {layer.layer}", "first order", "exact", marked
            )
            caption = "Effect of each filter, to first order and exact; the five largest in red."
            yield f"effects-{i}", Picture(png, caption)


def _title(study: FilterStudy) -> str:
    return f"Filters of {study.importance.meta['model']}"

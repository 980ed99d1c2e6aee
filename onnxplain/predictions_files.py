"""What layers predict, as files: records, tables, plots, pictures of heat maps, and one page of all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from onnxplain.errors import ConfigError, InputError
from onnxplain.explain import Outcome, file_stems, read_input
from onnxplain.files import write_bytes, write_text
from onnxplain.methods.hybrid import hybrid_view
from onnxplain.methods.predictions import layer_predictions
from onnxplain.model import Model
from onnxplain.render import plots
from onnxplain.render.report import Picture, Section, Table, write_report
from onnxplain.results import LayerAgreement, LayerPredictions, Readouts, Record
from onnxplain.results.filters import FilterImportance
from onnxplain.results.hybrid import HybridView
from onnxplain.results.predictions import POOR, shown_r2
from onnxplain.results.records import probabilities

Saved = TypeVar("Saved", bound=Record)

MOST_MAPS = 15
"""Heat maps on one sheet; of more layers so many are drawn, evenly spread, the last among them."""
MOST_SECTIONS = 50
"""Images shown on the page; the files of all are written."""
FILTERS = "strongest filters (evidence)"
RIVALS = 3
"""Classes whose probability is plotted over the layers, the explained one among them."""


@dataclass(frozen=True)
class Predicted(Outcome):
    """An image's prediction, what its layers predict, the files written, and its part of the page.

    `hybrid`: the evidence of filters beside their importance, where that is known.
    """

    record: LayerPredictions | None = None
    hybrid: HybridView | None = None
    files: tuple[str, ...] = ()
    section: Section | None = None

    def found(self) -> dict[str, Any]:
        """Return what the layers predict, JSON-able."""
        assert self.record is not None
        r = self.record
        depth = int(r.depth[0])
        return {
            "mode": r.mode,
            "class": int(r.classes[0]),
            "label": r.label(int(r.classes[0])),
            "decision_depth": depth,
            "decided_from": r.layers[depth] if depth < len(r.layers) else None,
            "layers": [_layer_facts(r, i) for i in range(len(r.layers))],
            "hybrid": None if self.hybrid is None else _hybrid_facts(self.hybrid),
            "files": list(self.files),
        }


def predict_files(
    model: Model,
    images: Sequence[str | Path],
    out: Path,
    readouts: Readouts | None = None,
    options: Mapping[str, Any] | None = None,
    importance: FilterImportance | None = None,
) -> Iterator[Predicted]:
    """Ask the layers about each image, write into `out`, and yield what came of each, in order.

    Per image a record (`<name>.layers.json` and .npz), a table (.csv), a picture of the layers' heat maps
    (`.layers.png`; none for a model that takes no pictures) and, with matplotlib, a plot of the
    probability over the layers (`.trajectory.png`). Of a file that holds several images the record has all,
    the rest shows the first. options: of `layer_predictions`. importance: of the model's filters, to set
    their evidence beside. An image that cannot be read is reported in its result and the others go on; an
    error that would befall every image is raised.
    """
    for path, stem in zip(images, file_stems(images), strict=True):
        try:
            x = read_input(model, path)
        except InputError as error:
            yield Predicted(str(path), error=str(error))
            continue
        record = layer_predictions(model, x, readouts, **(options or {}))
        prediction = model.predict(x)
        top = tuple(prediction.top(5)[0])
        table = layer_table(record)
        hybrid = None if importance is None else hybrid_view(record, importance)
        written = [record.save(out, f"{stem}.layers"), out / f"{stem}.layers.csv"]
        write_text(written[1], table.csv())
        pictures = []
        shown = x[model.graph.source.name] if isinstance(x, Mapping) else x
        for kind, caption, png in _pictures(model, shown[:1], record, Path(path).name):
            written.append(out / f"{stem}.{kind}.png")
            write_bytes(written[-1], png)
            pictures.append(Picture(png, caption))
        yield Predicted(
            str(path),
            top,
            prediction.warning,
            record=record,
            hybrid=hybrid,
            files=tuple(map(str, written)),
            section=Section(
                f"{path}: {top[0].label} {top[0].probability:.1%}",
                tuple(notes(record)),
                (*_for_page(table), *([] if hybrid is None else [hybrid_table(hybrid)])),
                tuple(pictures),
            ),
        )


def write_page(
    out: Path, model: Model, done: Sequence[Predicted], more: Sequence[Section] = ()
) -> Path:
    """Write `predictions.html`: a section for each image, and more; return its path."""
    sections = [p.section for p in done if p.section is not None]
    left = len(sections) - MOST_SECTIONS
    if left > 0:
        text = f"{left} more images are in the files beside this page."
        sections = [*sections[:MOST_SECTIONS], Section("And", (text,))]
    title = f"What the layers of {Path(model.name).name} predict"
    return write_report(out / "predictions.html", title, [*more, *sections])


# --- one image ----------------------------------------------------------------------------------------
def layer_table(r: LayerPredictions) -> Table:
    """Return a row per layer, and one for the model itself."""
    c = r.label(int(r.classes[0]))
    columns = ["layer", "predicts", "p", f"p({c})", "rank", "margin", "entropy", "agrees"]
    columns += ["held-out R2"] if r.r2 else []
    columns += [FILTERS] if r.evidence else []
    rows: list[tuple[object, ...]] = []
    for i in range(len(r.layers)):
        f = _layer_facts(r, i)
        best = f["top"][0]
        row = [f["layer"], best["label"], best["probability"]]
        row += [f["p"], f["rank"], f["margin"], f["entropy"], "yes" if f["agrees"] else "no"]
        row += [shown_r2(r.r2, i)] if r.r2 else []
        row += (
            [", ".join(f"{k} ({v:+.3g})" for k, v in r.top_filters(i, 0, 3))] if r.evidence else []
        )
        rows.append(tuple(row))
    rest = len(columns) - 4
    p = probabilities(r.final, r.activation)[0]
    best_class = int(r.final[0].argmax())
    rows.append(
        (
            "the model",
            r.label(best_class),
            float(p[best_class]),
            float(r.final_p[0]),
            *[None] * rest,
        )
    )
    return Table(tuple(columns), tuple(rows), f"{c}, layer by layer")


def _for_page(table: Table) -> tuple[Table, ...]:
    """Return a table of layers as a page has room for it: long names cut, the filters apart."""
    rows = [(_tail(str(name)), *cells) for name, *cells in table.rows]
    if table.columns[-1] != FILTERS:
        return (Table(table.columns, tuple(rows), table.caption),)
    main = Table(table.columns[:-1], tuple(row[:-1] for row in rows), table.caption)
    filters = tuple((row[0], row[-1]) for row in rows if row[-1] is not None)
    return main, Table(
        (table.columns[0], table.columns[-1]), filters, "What speaks for it or against"
    )


def hybrid_table(found: HybridView) -> Table:
    """Return a row per layer: how evidence for the image goes with importance over the data."""
    columns = ("layer", "evidence ~ importance", "strong here, worth little over the data")
    rows = tuple(
        (_tail(layer.layer), layer.agreement, unusual_text(layer.unusual)) for layer in found.layers
    )
    return Table(columns, rows, "Evidence of filters beside their importance over the data")


def unusual_text(filters: Sequence[int], most: int = 8) -> str:
    """Return numbers of filters as text, of many the first."""
    more = f" and {len(filters) - most} more" if len(filters) > most else ""
    return (", ".join(map(str, filters[:most])) + more) or "none"


def _hybrid_facts(found: HybridView) -> list[dict[str, Any]]:
    return [
        {"layer": h.layer, "agreement": h.agreement, "unusual": list(h.unusual)}
        for h in found.layers
    ]


def notes(r: LayerPredictions) -> list[str]:
    """Return in sentences where the decision on the first image falls, and what to be wary of."""
    depth, count = int(r.depth[0]), len(r.layers)
    lines = ["no layer decides as the model does in the end"]
    if depth < count:
        lines = [f"decided from {r.layers[depth]} on, layer {depth + 1} of {count}"]
        if depth == 0:
            lines = [f"all {count} layers decide as the model does in the end"]
    elif r.agrees[:, 0].any():
        lines = ["the last layer does not decide as the model does in the end"]
    poor = [i for i in range(count) if r.poor(i)]
    if poor:
        lines.append(
            f"{len(poor)} of {count} readouts are poor (held-out R2 below {POOR}): there, what a layer "
            "predicts says little about what it knows"
        )
    if (more := len(r.classes) - 1) > 0:
        lines.append(f"this is the first of {more + 1} images in the file; the record holds all")
    return lines


def _layer_facts(r: LayerPredictions, layer: int) -> dict[str, Any]:
    """Return what a layer says of the first image, JSON-able."""
    found: dict[str, Any] = {
        "layer": r.layers[layer],
        "top": [ranked._asdict() for ranked in r.top(layer)],
        "p": float(r.p[layer, 0]),
        "rank": int(r.ranks[layer, 0]),
        "margin": float(r.margins[layer, 0]),
        "entropy": float(r.entropies[layer, 0]),
        "agrees": bool(r.agrees[layer, 0]),
    }
    if r.r2:
        found |= {"r2": r.r2[layer], "poor": r.poor(layer)}
    if r.evidence:
        found["top_filters"] = [
            {"channel": k, "evidence": value} for k, value in r.top_filters(layer)
        ]
    return found


def _pictures(
    model: Model, x: Any, r: LayerPredictions, title: str
) -> Iterator[tuple[str, str, bytes]]:
    """Yield kind, caption and PNG of what can be drawn of an image."""
    mapped = [i for i, heat in enumerate(r.maps) if heat is not None]
    c = r.label(int(r.classes[0]))
    if mapped and model.spec.is_picture:
        chosen = spread(mapped, MOST_MAPS)
        what = {
            "readout": f"Heat maps for {c}: red speaks for it, blue against; the mean of each, plus a bias, "
            "is the layer's logit",
            "masked": "Where each layer responds: what the model was shown; the rest was blurred, or in the "
            "picture's mean colour",
        }[r.mode]
        left = "" if len(chosen) == len(mapped) else f"; {len(chosen)} of {len(mapped)} layers"
        yield "layers", f"{what}{left}.", _sheet(model, x, r, chosen, title)
    if plots.available():
        yield "trajectory", f"The probability of {c} and its rivals, layer by layer.", trajectory(r)


def spread(places: Sequence[int], most: int) -> list[int]:
    """Return at most `most` of some places, evenly spread, the last among them."""
    if len(places) <= most:
        return list(places)
    return [places[i] for i in np.linspace(0, len(places) - 1, most).round().astype(int)]


def _sheet(model: Model, x: Any, r: LayerPredictions, layers: Sequence[int], title: str) -> bytes:
    from onnxplain.preprocess import picture
    from onnxplain.render import figure, png

    panels = []
    for i in layers:
        best, heat = r.top(i, 0, 1)[0], r.maps[i]
        assert heat is not None
        poor = f", R2 {shown_r2(r.r2, i)}" if r.r2 else ""
        panels.append((_tail(r.layers[i]), f"{best.label} {best.probability:.0%}{poor}", heat[0]))
    shown = picture(x, model.spec, model.preprocess)[0]
    own = r.label(int(r.final[0].argmax()))
    return png(figure(shown, panels, f"{title}: {own}, layer by layer"))


def _tail(name: str, most: int = 40) -> str:
    return name if len(name) <= most else f"...{name[3 - most :]}"


def trajectory(r: LayerPredictions, image: int = 0) -> bytes:
    """Plot the probability of the explained class, and of the model's other favourites, over the layers."""
    own = probabilities(r.final, r.activation)[image]
    order = [int(r.classes[image])]
    order += [c for c in np.argsort(-own, kind="stable").tolist() if c not in order]
    p, at = r.probabilities[:, image], np.arange(len(r.layers) + 1)
    lines = {r.label(c): (at, np.append(p[:, c], own[c])) for c in order[:RIVALS]}
    ticks = [*(_tail(name, 28) for name in r.layers), "the model"]
    title = f"Probability over the layers ({r.mode})"
    return plots.curves(lines, title, "layer", "probability", ticks, (-0.02, 1.02))


# --- a data set ---------------------------------------------------------------------------------------
def agreement_table(a: LayerAgreement) -> Table:
    """Return a row per layer."""
    columns = ["layer", "agreement", "p of the decision", "entropy", "images decided from here"]
    columns += ["accuracy"] if a.accuracy is not None else []
    columns += ["held-out R2"]
    rows: list[tuple[object, ...]] = []
    for i, name in enumerate(a.layers):
        row = [name, float(a.agreement[i]), float(a.p[i]), float(a.entropy[i]), int(a.depth[i])]
        row += [float(a.accuracy[i])] if a.accuracy is not None else []
        rows.append((*row, shown_r2(a.r2, i)))
    last: list[object] = ["the model", 1.0, None, None, int(a.depth[-1])]
    last += [a.final_accuracy] if a.accuracy is not None else []
    return Table(tuple(columns), (*rows, (*last, None)), f"{a.images} images")


def agreement_section(a: LayerAgreement, pictures: Sequence[Picture]) -> Section:
    """Return the part of the page that tells of a data set."""
    return Section(
        f"Over {a.meta['data']}: {a.images} images",
        tuple(agreement_notes(a)),
        _for_page(agreement_table(a)),
        tuple(pictures),
    )


def agreement_notes(a: LayerAgreement) -> list[str]:
    """Return in sentences where decisions fall."""
    depth, count = a.median_depth, len(a.layers)
    where = f"{a.layers[depth]}, layer {depth + 1} of {count}" if depth < count else "no layer yet"
    lines = [f"half of the images are decided by {where}"]
    if a.depth_correct is not None and a.depth_labelled is not None:
        half = slice(0, depth + 1), slice(depth + 1, None)
        early, late = ((a.depth_correct[s].sum(), a.depth_labelled[s].sum()) for s in half)
        shares = [f"{right / of:.1%} of {of}" for right, of in (early, late) if of]
        if len(shares) == 2:
            lines.append(
                f"the model is right on {shares[0]} images decided by then, on {shares[1]} decided later"
            )
    return lines


def write_agreement(a: LayerAgreement, out: Path) -> tuple[list[str], Section]:
    """Write record, table and plots of a data set into `out`; return the files, and the part of the page."""
    written = [a.save(out, "agreement"), out / "agreement.csv"]
    write_text(written[1], agreement_table(a).csv())
    pictures = []
    if plots.available():
        for kind, caption, png in _agreement_plots(a):
            written.append(out / f"{kind}.png")
            write_bytes(written[-1], png)
            pictures.append(Picture(png, caption))
    return list(map(str, written)), agreement_section(a, pictures)


def _agreement_plots(a: LayerAgreement) -> Iterator[tuple[str, str, bytes]]:
    at = np.arange(len(a.layers))
    lines = {"agreement": (at, a.agreement), "p of the decision": (at, a.p)}
    if a.accuracy is not None:
        lines["accuracy"] = (at, a.accuracy)
    ticks = [_tail(name, 28) for name in a.layers]
    title = f"What {len(a.layers)} layers predict of {a.images} images"
    yield (
        "agreement",
        "How often each layer decides as the model does.",
        plots.curves(lines, title, "layer", "share of images", ticks, (-0.02, 1.02)),
    )
    yield (
        "depth",
        "Decision depth: the first layer from which the decision stays.",
        plots.bars(a.depth, "Decision depth", "layer", "images", [*ticks, "the model"]),
    )


def agreement_facts(a: LayerAgreement) -> dict[str, Any]:
    """Return what was counted over a data set, JSON-able."""
    return {
        "data": a.meta["data"],
        "images": a.images,
        "labelled": a.labelled,
        "final_accuracy": a.final_accuracy,
        "median_depth": a.median_depth,
        "undecided_before_the_end": int(a.depth[-1]),
        "layers": [
            {
                "layer": name,
                "agreement": float(a.agreement[i]),
                "accuracy": None if a.accuracy is None else float(a.accuracy[i]),
                "p": float(a.p[i]),
                "entropy": float(a.entropy[i]),
                "decided_here": int(a.depth[i]),
                "r2": a.r2[i],
            }
            for i, name in enumerate(a.layers)
        ],
    }


# --- readouts -----------------------------------------------------------------------------------------
def load_saved(kind: type[Saved], path: Path) -> Saved:
    """Read a saved record by the path of its .json or .npz file; raises InputError, ConfigError."""
    if path.suffix not in (".json", ".npz"):
        raise ConfigError(f"{path}: what was saved is a .json file with its .npz: name that")
    return kind.load(path.parent, path.stem)

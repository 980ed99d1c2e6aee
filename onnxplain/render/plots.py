"""Plots as PNG, drawn by matplotlib (`pip install 'onnxplain[plot]'`), without a window or global state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from io import BytesIO
from typing import Any

import numpy as np

from onnxplain.errors import ConfigError

Array = np.ndarray[Any, Any]
DPI = 110
LONGEST = 28
"""Characters of a name beside an axis."""
MOST_TICKS = 40
"""Above it a matrix's rows are not named."""


def available() -> bool:
    """Return whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def matrix(
    values: Array,
    title: str,
    names: Sequence[str] | None = None,
    limits: tuple[float, float] = (-1, 1),
    bounds: Sequence[int] = (),
) -> bytes:
    """Draw a matrix [n, m] as colours between `limits`, blue to red, or white to blue from 0 on.

    names: of the rows (and of the columns, if as many). bounds: rows before which to draw a line, to tell
    groups apart.
    """
    signed = limits[0] < 0
    side = min(4 + 0.12 * len(values), 9)
    figure, axes = _axes(title, (side + 1, side))
    shown = axes.imshow(
        values, vmin=limits[0], vmax=limits[1], cmap="RdBu_r" if signed else "Blues"
    )
    figure.colorbar(shown, ax=axes, shrink=0.8)
    if names is not None:
        short = list(map(_short, names)) if len(names) <= MOST_TICKS else []
        axes.set_yticks(range(len(short)), short, fontsize=7)
        if values.shape[1] == len(names):
            axes.set_xticks(range(len(short)), short, fontsize=7, rotation=90)
    for bound in bounds:
        axes.axhline(bound - 0.5, color="black", linewidth=0.6)
        axes.axvline(bound - 0.5, color="black", linewidth=0.6)
    return _png(figure)


def curves(
    lines: Mapping[str, tuple[Array, Array]],
    title: str,
    x: str,
    y: str,
    ticks: Sequence[str] | None = None,
    limits: tuple[float, float] | None = None,
) -> bytes:
    """Draw y over x per name; `ticks` name the whole numbers 0, 1, ... of the x axis; `limits` of y."""
    figure, axes = _axes(title, (7, 4.2))
    for name, (at, values) in lines.items():
        axes.plot(at, values, marker="o", markersize=3, label=name)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if limits is not None:
        axes.set_ylim(*limits)
    if ticks is not None:
        _name(axes, ticks)
    if len(lines) > 1:
        axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    return _png(figure)


def bars(values: Array, title: str, x: str, y: str, ticks: Sequence[str]) -> bytes:
    """Draw a bar for each value, named by `ticks`."""
    figure, axes = _axes(title, (7, 4.2))
    axes.bar(range(len(values)), values)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    _name(axes, ticks)
    axes.grid(alpha=0.3, axis="y")
    return _png(figure)


def points(x: Array, y: Array, title: str, x_name: str, y_name: str, marked: Array) -> bytes:
    """Draw points; `marked` (bool) in another colour, numbered by their index."""
    figure, axes = _axes(title, (5, 4.5))
    axes.scatter(x[~marked], y[~marked], s=14, alpha=0.7)
    axes.scatter(x[marked], y[marked], s=22, color="tab:red")
    for i in np.flatnonzero(marked):
        axes.annotate(str(i), (x[i], y[i]), fontsize=7)
    axes.set_xlabel(x_name)
    axes.set_ylabel(y_name)
    axes.grid(alpha=0.3)
    return _png(figure)


def _axes(title: str, size: tuple[float, float]) -> tuple[Any, Any]:
    if not available():
        raise ConfigError("plots need matplotlib: pip install 'onnxplain[plot]'")
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(_plain(title), fontsize=10)
    return figure, axes


def _name(axes: Any, ticks: Sequence[str]) -> None:
    """Name the whole numbers of the x axis."""
    axes.set_xticks(
        range(len(ticks)), list(map(_short, ticks)), fontsize=7, rotation=60, ha="right"
    )


def _short(name: str) -> str:
    """Return a name with its end kept: layers differ there."""
    return _plain(name if len(name) <= LONGEST else "…" + name[1 - LONGEST :])


def _plain(text: str) -> str:
    """Return text that matplotlib does not take for mathematics."""
    return text.replace("$", r"\$")


def _png(figure: Any) -> bytes:
    file = BytesIO()
    figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()

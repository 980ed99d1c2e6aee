"""The command that compares two saved hierarchies."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnxplain.cli.app import AsJson, app

if TYPE_CHECKING:
    from onnxplain.hierarchy import HierarchyDifference, LevelDifference

FEW = 5
"""Channels named of a kind; --json has them all."""
SAVED = "A hierarchy that `decompose` wrote, .json."


@app.command()
def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help=SAVED)],
    b: Annotated[Path, typer.Argument(metavar="B", help=SAVED)],
    as_json: AsJson = False,
) -> None:
    """Compare two hierarchies: two classes, two images, or two versions of a model."""
    from onnxplain.hierarchy import Hierarchy, compare

    found = compare(Hierarchy.load(a), Hierarchy.load(b))
    if as_json:
        print(json.dumps(found.to_dict(), indent=1))
    else:
        print("\n".join(lines(found, (str(a), str(b)))))


def lines(found: HierarchyDifference, names: Sequence[str]) -> Iterator[str]:
    """Return what differs as lines of text, for terminals; `names`: of the two files."""
    from onnxplain.hierarchy.names import short, visible
    from onnxplain.hierarchy.text import LONGEST

    def named(text: str) -> str:
        return short(visible(text), LONGEST)

    sides = ((found.label_a, found.decision_a), (found.label_b, found.decision_b))
    for letter, name, (label, decision) in zip("AB", names, sides, strict=True):
        yield f"{letter}: {named(label)}  {decision:.4g}  ({visible(name)})"
    for level in found.levels:
        layers = dict.fromkeys(named(x or "nothing") for x in (level.layer_a, level.layer_b))
        either = len(level.common) + len(level.only_a) + len(level.only_b)
        yield (
            f"level {level.level}, {' against '.join(layers)}: {len(level.common)} of {either} "
            f"channels in both ({level.jaccard:.0%})"
        )
        yield from _channels(level)
    first = found.first_difference
    yield (
        "the same channels at every level" if first is None else f"first difference: level {first}"
    )
    yield from (f"note: {short(visible(note), 4 * LONGEST)}" for note in found.notes)


def _channels(level: LevelDifference) -> Iterator[str]:
    """Yield a line for the channels in both, in A and in B alone, the largest contributions first."""
    kinds = {
        "both": [f"ch {k} {a:+.4g} against {b:+.4g}" for k, (a, b) in level.common.items()],
        "only A": [f"ch {k} {c:+.4g}" for k, c in level.only_a.items()],
        "only B": [f"ch {k} {c:+.4g}" for k, c in level.only_b.items()],
    }
    for kind, shown in kinds.items():
        if shown:
            more = f", and {len(shown) - FEW} more" if len(shown) > FEW else ""
            yield f"  {kind:6}  {', '.join(shown[:FEW])}{more}"

"""`onnxplain diff`: two saved hierarchies against each other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from onnxplain.hierarchy import compare
from tests.hierarchy.made import HOSTILE, real, renamed, tree, without
from tests.test_cli import Ran, failed
from tests.test_cli import run as run  # the fixture


def test_what_differs_is_printed(run: Callable[..., Ran]) -> None:
    tree().save(".", "a")
    without(tree(label="dog", seed="max"), "root/2/4/3").save(".", "b")
    ran = run("diff", "a.json", "b.json")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "A: cat  10  (a.json)",
        "B: dog  10  (b.json)",
        "level 1, top: 2 of 2 channels in both (100%)",
        "  both    ch 1 +6 against +6, ch 2 +3 against +3",
        "level 2, mid: 2 of 2 channels in both (100%)",
        "  both    ch 4 +5 against +5, ch 7 +2 against +2",
        "level 3, low: 1 of 2 channels in both (50%)",
        "  both    ch 0 +3 against +3",
        "  only A  ch 3 +0.5",
        "first difference: level 3",
        "note: seed: None against 'max'",
    ]


def test_json_has_everything(run: Callable[..., Ran]) -> None:
    real(0).save(".", "a")
    real(1).save(".", "b")
    ran = run("diff", "a.json", "b.json", "--json")
    assert json.loads(ran.out) == compare(real(0), real(1)).to_dict()
    shown = run("diff", "a.json", "b.json").out
    assert ", and " in shown and len(shown) < len(ran.out)


def test_a_hierarchy_and_itself(run: Callable[..., Ran]) -> None:
    tree().save(".", "a")
    ran = run("diff", "a.json", "a.json")
    assert "the same channels at every level" in ran.out and "only" not in ran.out


@pytest.mark.parametrize("name", HOSTILE)
def test_names_cannot_write_to_the_terminal(name: str, run: Callable[..., Ran]) -> None:
    renamed(tree(), name, name).save(".", "a")
    tree().save(".", "b")
    ran = run("diff", "a.json", "b.json")
    assert ran.code == 0 and len(ran.out.splitlines()) == 10
    assert max(map(len, ran.out.splitlines())) < 250
    assert all(line.isprintable() for line in ran.out.splitlines())


def test_what_is_no_hierarchy(run: Callable[..., Ran]) -> None:
    tree().save(".", "a")
    failed(run("diff", "a.json", "nowhere.json"), "nowhere.json", "No such file")
    Path("b.json").write_text("{}")
    failed(run("diff", "a.json", "b.json"), "b.json")
    Path("a.npz").unlink()
    failed(run("diff", "a.json", "a.json"), "a.npz")

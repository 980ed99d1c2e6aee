"""The document behind a page, and the file: complete, escaped, small, one digest per script."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import onnxplain as ox
from onnxplain.errors import ConfigError, OutputError
from onnxplain.hierarchy import Hierarchy
from onnxplain.page import page_document, page_html, write_page
from onnxplain.page.html import SCRIPTS, asset
from onnxplain.results import Ranked
from tests.page import trees

Array = np.ndarray[Any, Any]
HOSTILE = "</script><script>alert(1)</script><!--\u2028\u2029\ud800\"'&\n"


def decoded(url: str) -> Array:
    kind, data = url.split(",")
    assert kind in ("data:image/png;base64", "data:image/jpeg;base64")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def embedded(html: str) -> Any:
    found = re.search(r'<script type="application/json" id="document">(.*?)</script>', html, re.S)
    assert found
    return json.loads(found[1])


def test_document_says_all_that_the_hierarchy_does() -> None:
    h = trees.cat()
    view = page_document(h)["views"][0]
    assert [n["id"] for n in view["nodes"]] == [n.id for n in h]
    for shown, node in zip(view["nodes"], h, strict=True):
        for name in ("channel", "level", "decision", "contribution", "share", "residual", "box"):
            assert shown[name] == getattr(node, name)
        assert view["columns"][node.level]["layer"] == node.layer
    assert view["edges"] == [dataclasses.asdict(e) for e in h.edges]
    assert view["score"] == h.root.decision


def test_maps_are_the_evidence_scaled_to_8_bits() -> None:
    h = trees.cat()
    for shown, node in zip(page_document(h)["views"][0]["nodes"], h, strict=True):
        if node.map is None:
            assert shown["map"] is None
            continue
        evidence = np.maximum(-node.map if node.inhibits else node.map, 0)
        heat = decoded(shown["map"]["src"]) / 255 * shown["map"]["max"]
        np.testing.assert_allclose(heat, evidence, atol=evidence.max() / 500)
        if node.pixels is not None:
            limit = shown["pixels"]["max"]
            pixels = (decoded(shown["pixels"]["src"]).astype(float) - 128) / 127 * limit
            np.testing.assert_allclose(
                pixels, np.clip(node.pixels, -limit, limit), atol=limit / 250
            )


def test_small_picture_is_stored_without_loss() -> None:
    h = trees.cat()
    np.testing.assert_array_equal(decoded(page_document(h)["picture"]["src"]), h.image)


def test_large_picture_is_shown_smaller_but_measured_in_its_own_pixels() -> None:
    picture = page_document(trees.made_up(size=(1500, 2000)))["picture"]
    assert (picture["height"], picture["width"]) == (1500, 2000)
    assert decoded(picture["src"]).shape == (768, 1024, 3)


def test_titles_ask_the_question_of_each_hierarchy() -> None:
    contrast = trees.cat(ox.Target.contrast(3, 5))
    titles = [v["title"] for v in page_document(trees.cat(), contrast)["views"]]
    assert titles == ["Why cat?", "Why cat rather than dog?"]
    titles = [v["title"] for v in page_document(trees.cat(), trees.cat(seed="root"))["views"]]
    assert titles == ["Why cat? (seed path)", "Why cat? (seed root)"]


def test_two_hierarchies_of_different_pictures_are_refused() -> None:
    with pytest.raises(ConfigError, match="same picture"):
        page_document(trees.cat(), trees.made_up())


def test_predictions_other_maps_and_exemplars_are_carried() -> None:
    h = trees.made_up()
    exemplar = np.full((300, 200, 3), 7, np.uint8)
    values = np.array([[-1.0, 0.0], [0.5, 1.0]])
    document = page_document(
        h,
        top=[Ranked(3, "cat", 0.9, 8.0)],
        maps={"signed": values, "positive": np.abs(values)},
        exemplars={("upper", 1): [(exemplar, "a.jpg")]},
    )
    assert document["top"] == [{"index": 3, "label": "cat", "probability": 0.9}]
    signs = [m["map"]["signed"] for m in document["maps"]]
    assert signs == [True, False]
    shown = {n["id"]: n["exemplars"] for n in document["views"][0]["nodes"]}
    assert [i for i, n in shown.items() if n is not None] == ["root/1"]
    (entry,) = document["exemplars"][shown["root/1"]]
    assert entry["caption"] == "a.jpg"
    assert decoded(entry["src"]).shape == (96, 64, 3)


def test_what_is_not_finite_becomes_null() -> None:
    h = trees.made_up()
    h.graph.nodes["root/0"]["contribution"] = float("inf")
    h.meta["least"] = float("nan")
    h.graph.nodes["root/0"]["map"] = np.full((2, 2), np.nan, np.float32)
    shown = page_document(h)["views"][0]["nodes"][1]
    assert shown["contribution"] is None
    assert shown["map"] is None
    assert page_document(h)["views"][0]["meta"]["least"] == "NaN"
    json.dumps(page_document(h), allow_nan=False)


def test_no_text_can_break_out_of_the_page() -> None:
    h = trees.made_up(names=(HOSTILE, HOSTILE + "2", HOSTILE + "3"), label=HOSTILE)
    document = page_document(h)
    html = page_html(document)
    assert embedded(html) == json.loads(json.dumps(document))
    assert html.count("<script") == len(SCRIPTS) + 1
    assert "alert(1)</script>" not in html
    assert "\u2028" not in html


def test_the_policy_lists_the_digest_of_what_runs_and_nothing_else() -> None:
    html = page_html(None, script="let a = '</script>';", style="b {}")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy
    rules = dict(rule.split(" ", 1) for rule in policy[1].split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == "'self'"
    for what, tag in (("script-src", "script"), ("style-src", "style")):
        bodies = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.S)
        digests = [base64.b64encode(hashlib.sha256(b.encode()).digest()).decode() for b in bodies]
        assert rules[what].split() == [f"'sha256-{d}'" for d in digests]
    assert "connect-src 'none'" in page_html(None)


def test_vendored_code_is_what_its_table_says() -> None:
    rows = re.findall(r"^\| (\S+) \|.*\| ([0-9a-f]{64}) \|$", asset("vendor/VENDORED.md"), re.M)
    assert [name for name, _ in rows] == ["dagre.min.js"]
    for name, digest in rows:
        assert hashlib.sha256(asset(f"vendor/{name}").encode()).hexdigest() == digest
    assert "Permission is hereby granted" in asset("vendor/dagre.LICENSE")


def test_page_of_many_nodes_is_small(tmp_path: Path) -> None:
    # The worst that maps can be: noise in every position, in a layer and picture of usual size.
    h = trees.made_up(size=(224, 224), map_size=(56, 56), pixels=True)
    kept = list(h)[:40]
    inside = {n.id for n in kept}
    edges = [e for e in h.edges if e.child in inside]
    write_page(Hierarchy.of(kept, edges, h.meta, h.image), tmp_path / "page.html")
    assert len(kept) == 40
    assert sum(n.pixels is not None for n in kept) >= 10
    assert (tmp_path / "page.html").stat().st_size < 3_000_000


def test_page_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError):
        write_page(trees.made_up(), tmp_path / "file" / "page.html")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]

"""`onnxplain decompose` as users meet it: what it prints and writes, and every kind of bad input."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from PIL import Image

import onnxplain as ox
from onnxplain.hierarchy import Hierarchy
from tests.test_cli import CAT, MODEL, ROOT, Ran, failed
from tests.test_cli import run as run  # the fixture

HORSE = CAT.parent / "horse.jpg"
SMALL = ("--top-k", 2, "--depth", 2, "--inhibitors", 0)


def test_the_tree_is_printed_and_written(run: Callable[..., Ran], tmp_path: Path) -> None:
    ran = run("decompose", MODEL, CAT, *SMALL)
    assert ran.code == 0, ran.err
    model = ox.load(MODEL)
    expected = ox.decompose(model, model.read([CAT]), top_k=2, depth=2, inhibitors=0)
    lines = ran.out.splitlines()
    assert lines[1].startswith("  predicted: cat 9")
    for node in expected.level(1) + expected.level(2):
        (line,) = [
            x
            for x in lines
            if re.search(rf"{node.layer} ch {node.channel}  .{node.contribution:.4g}", x)
        ]
        assert f"({node.share:.0%})" in line
    assert f"cover {expected.root.coverage:.0%}" in ran.out
    assert f"{expected.root.residual:+.4g}" in ran.out
    best = expected.level(1)[0]
    assert f"strongest path: {best.layer} ch {best.channel} > relu2_2" in ran.out
    out = tmp_path / "onnxplain-out"
    names = sorted(p.name for p in out.iterdir())
    assert names == ["cat.tree.html", "cat.tree.json", "cat.tree.npz", "cat.tree.png"]
    saved = Hierarchy.load(out / "cat.tree.json")
    assert [n.id for n in saved] == [n.id for n in expected]
    np.testing.assert_allclose(saved.leaves[0].pixels, expected.leaves[0].pixels, rtol=1e-5)
    with Image.open(out / "cat.tree.png") as page:
        assert min(page.size) > 400
    assert "relu2_2" in (out / "cat.tree.html").read_text(encoding="utf-8")


def test_a_tree_without_branches_says_how_to_get_some(run: Callable[..., Ran]) -> None:
    ran = run("decompose", MODEL, CAT, *SMALL, "--min-share", 1)
    assert ran.code == 0, ran.err
    assert "no channel of relu3_2 holds 100% of the positive evidence: try --min-share 0" in ran.out


def test_out_gives_format_and_place(run: Callable[..., Ran], tmp_path: Path) -> None:
    ran = run(
        "decompose", MODEL, CAT, *SMALL, "--no-pixels",
        *("--out", "a/tree.graphml", "--out", "tree.dot", "--out", "b.gexf", "--out", "folder"),
    )  # fmt: skip
    assert ran.code == 0, ran.err
    graph = nx.read_graphml(tmp_path / "a" / "tree.graphml")
    assert len(graph) == 7 and graph.nodes["root"]["label"] == "cat"
    assert (tmp_path / "tree.dot").read_text().startswith("digraph")
    assert len(nx.read_gexf(tmp_path / "b.gexf")) == 7
    saved = Hierarchy.load(tmp_path / "folder" / "cat.tree.json")
    assert all(n.pixels is None for n in saved)


def test_options_reach_the_decomposition(run: Callable[..., Ran]) -> None:
    ran = run(
        "decompose", MODEL, CAT, "--target", "dog", "--layer", "relu1_2", "--layer", "relu3_2",
        *("--seed", "root", "--weight", "positive", "--top-k", 2, "--min-share", 0.01),
        *("--max-nodes", 4, "--inhibitors", 2, "--json"),
    )  # fmt: skip
    (result,) = json.loads(ran.out)
    model = ox.load(MODEL)
    expected = ox.decompose(
        model, model.read([CAT]), 5, ["relu3_2", "relu1_2"], 2, "root",
        weight="positive", min_share=0.01, max_nodes=4, inhibitors=2,
    )  # fmt: skip
    (tree,) = result["hierarchies"]
    assert (tree["label"], tree["class"], tree["layers"]) == ("dog", 5, ["relu3_2", "relu1_2"])
    assert tree["score"] == pytest.approx(expected.root.decision)
    assert tree["residual"] == pytest.approx(expected.root.residual)
    for level in (1, 2):
        found = [(n["id"], n["channel"]) for n in tree["levels"][level - 1]]
        assert found == [(n.id, n.channel) for n in expected.level(level)]
    assert result["top"][0]["label"] == "cat"
    assert all(Path(f).is_file() for f in result["files"])


def test_a_contrast_is_a_second_tree(run: Callable[..., Ran], tmp_path: Path) -> None:
    ran = run("decompose", MODEL, CAT, *SMALL, "--contrast", "dog", "--json")
    (result,) = json.loads(ran.out)
    cat, contrast = result["hierarchies"]
    logits = {r["label"]: r["logit"] for r in result["top"]}
    assert cat["score"] == pytest.approx(logits["cat"], rel=1e-5)
    assert contrast["score"] == pytest.approx(logits["cat"] - logits["dog"], rel=1e-5)
    assert contrast["label"] == "cat rather than dog"
    names = {Path(f).name for f in result["files"]}
    assert names == {
        "cat.tree.json", "cat.tree.contrast.json", "cat.tree.html", "cat.tree.png", "cat.tree.contrast.png",
    }  # fmt: skip
    page = (tmp_path / "onnxplain-out" / "cat.tree.html").read_text(encoding="utf-8")
    assert page.count("cat rather than dog") >= 1


def test_one_tree_per_image(run: Callable[..., Ran], tmp_path: Path) -> None:
    other = tmp_path / "other" / "cat.jpg"
    other.parent.mkdir()
    shutil.copy(HORSE, other)
    ran = run("decompose", MODEL, CAT, other, *SMALL, "--out", "t.json", "--out", "o")
    assert ran.code == 0, ran.err
    trees = [Hierarchy.load(tmp_path / name) for name in ("t-cat.json", "t-cat-2.json")]
    assert [t.meta["label"] for t in trees] == ["cat", "horse"]
    assert {p.name for p in (tmp_path / "o").iterdir()} >= {"cat.tree.html", "cat-2.tree.html"}


def test_an_unreadable_image_does_not_stop_the_others(run: Callable[..., Ran]) -> None:
    Path("bad.jpg").write_text("no picture")
    ran = run("decompose", MODEL, "bad.jpg", CAT, *SMALL, "--out", "t.json")
    failed(ran, "bad.jpg", "not a picture")
    assert "predicted: cat" in ran.out and Path("t-cat.json").is_file()


def test_exemplars(run: Callable[..., Ran], tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for photo in CAT.parent.iterdir():
        shutil.copy(photo, folder)
    (folder / "broken.png").write_bytes(b"?")
    command = ("decompose", MODEL, CAT, *SMALL, "--exemplars", "photos", "--out", "t.json")
    ran = run(*command, "--out", "t.html")
    assert ran.code == 0, ran.err
    assert ran.err.count("broken.png") == 1 and "skipped" in ran.err
    tree = Hierarchy.load(tmp_path / "t.json")
    model = ox.load(MODEL)
    node = tree.level(2)[1]
    listed = tree.meta["exemplars"][node.layer][str(node.channel)]
    paths = sorted(folder.glob("*.jpg"))
    values = model.values({model.spec.name: model.read(paths)}, (node.layer,))[node.layer]
    highest = values[:, node.channel].max((1, 2))
    assert [Path(e["image"]).name for e in listed] == [paths[i].name for i in np.argsort(-highest)]
    assert [e["value"] for e in listed] == pytest.approx(sorted(highest, reverse=True), rel=1e-5)
    assert f"{paths[int(highest.argmax())].name}: " in (tmp_path / "t.html").read_text(
        encoding="utf-8"
    )
    assert len(list((tmp_path / "onnxplain-cache").iterdir())) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--layer", "relu9"), ("no layer 'relu9'", "inspect")),
        (("--layer", "relu2_2", "--layer", "relu2_2"), ("each once",)),
        (("--top-k", 0), ("top_k = 0", "1 or more")),
        (("--depth", 0), ("depth = 0", "1 or more")),
        (("--seed", "roots"), ("seed 'roots'", "path, root, max, sum")),
        (("--weight", "heavy"), ("weight 'heavy'", "signed, positive, mean")),
        (("--min-share", 2), ("min_share = 2.0", "0..1")),
        (("--max-nodes", 0), ("max_nodes = 0",)),
        (("--inhibitors", -1), ("inhibitors = -1",)),
        (("--target", "unicorn"), ("unicorn",)),
        (("--contrast", "unicorn"), ("unicorn",)),
        (("--contrast", "cat"), ("is the class explained", "another")),
        (("--contrast", "cat-dog"), ("not one class",)),
        (("--target", "cat-dog", "--contrast", "frog"), ("single class",)),
        (("--out", "tree.pdf"), ("unknown suffix '.pdf'", ".graphml")),
        (("--out", "tree.JSON"), ("unknown suffix '.JSON'", ".json")),
        (("--exemplars", "nowhere"), ("nowhere: no such file or folder",)),
    ],
)
def test_bad_options(
    run: Callable[..., Ran], tmp_path: Path, options: tuple[object, ...], says: tuple[str, ...]
) -> None:
    failed(run("decompose", MODEL, CAT, *options), *says)
    assert not list(tmp_path.iterdir()), "nothing is written"


def test_a_layer_that_is_no_cut(run: Callable[..., Ran], shared: Path) -> None:
    model = shared / "data" / "models" / "cifar10" / "resnet20.onnx"
    layers = ox.load(model).layers
    inner = next(x.name for x in layers if not x.cut and x.spatial)
    failed(run("decompose", model, CAT, "--layer", inner), inner, "cut")


def test_what_cannot_be_written(run: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    failed(run("decompose", MODEL, CAT, *SMALL, "--out", "file/tree.json"), "cannot be written")


def test_an_unreadable_image_alone(run: Callable[..., Ran]) -> None:
    failed(run("decompose", MODEL, "nowhere.jpg"), "nowhere.jpg", "no such file")


def test_readme_shows_what_is_printed(run: Callable[..., Ran], tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(
        r"```sh\n(onnxplain decompose models/.*)\n```\n\n```text\n(.*?)```", readme, re.S
    )
    assert found is not None
    (tmp_path / "models").symlink_to(ROOT / "models")
    command, shown = found.groups()
    ran = run(*command.split()[1:])
    numbers = re.compile(r"-?[0-9.]+")
    assert numbers.sub("#", ran.out) == numbers.sub("#", shown)
    pairs = zip(numbers.findall(ran.out), numbers.findall(shown), strict=True)
    assert all(a == b or float(a) == pytest.approx(float(b), rel=0.02) for a, b in pairs)

"""Exemplars against brute force: every activation of every picture, sorted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import onnxplain as ox
from onnxplain.dataset import Run
from onnxplain.dataset import run as runs
from onnxplain.errors import ConfigError, InputError, LayerError
from onnxplain.executor import Session
from onnxplain.methods.exemplars import exemplars
from tests import nets

LAYERS = ["features", "a1"]


@pytest.fixture
def model() -> ox.Model:
    return nets.load(nets.conv_net(), preprocess="unit")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of 21 pictures, three of which are the same."""
    rng = np.random.default_rng(5)
    for i in range(21):
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        if i in (7, 13, 20):
            pixels = np.full((8, 8, 3), 250, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i:02}.png")
    return tmp_path


def brute(model: ox.Model, paths: list[Path], layer: str) -> Any:
    """Return all activations [N, K, h, w]."""
    return np.concatenate([model.values({"x": model.read([p])}, (layer,))[layer] for p in paths])


@pytest.mark.parametrize("top", [1, 4, 30])
def test_the_best_of_all_pictures(model: ox.Model, folder: Path, top: int) -> None:
    found = exemplars(model, folder, LAYERS, top=top)
    paths = sorted(folder.iterdir())
    assert found.used == len(paths) and found.skipped == ()
    for name in LAYERS:
        maps = brute(model, paths, name)
        for channel in range(maps.shape[1]):
            highest = maps[:, channel].max((1, 2))
            order = np.argsort(-highest, kind="stable")[:top]
            mine = found.of(name, channel)
            assert [e.image for e in mine] == [str(paths[i]) for i in order]
            np.testing.assert_allclose([e.value for e in mine], highest[order], rtol=1e-6)
            for e, i in zip(mine, order, strict=True):
                assert maps[i, channel][e.peak] == pytest.approx(e.value)
                assert e.peak == np.unravel_index(maps[i, channel].argmax(), maps.shape[2:])


def test_boxes_and_crops(model: ox.Model, folder: Path) -> None:
    found = exemplars(model, folder, LAYERS)
    for e in found.of("features", 2):
        (r, c), (top, left, bottom, right) = e.peak, e.box or (0, 0, 0, 0)
        assert (top, left) == (max(2 * r - 2, 0), max(2 * c - 2, 0))
        assert (bottom, right) == (min(2 * r + 3, 8), min(2 * c + 3, 8))
        pixels = np.asarray(Image.open(e.image))[top:bottom, left:right]
        np.testing.assert_array_equal(found.crop(e), pixels)


def test_a_picture_s_pattern_is_found(tmp_path: Path) -> None:
    """A channel that answers red is shown red, at the place where it is."""
    w1 = np.zeros((4, 3, 3, 3), np.float32)
    w1[1, 0, 1, 1], w1[2, 2, 1, 1] = 1, 1
    model = nets.load(nets.conv_net(w1=w1, b1=np.zeros(4, np.float32)), preprocess="unit")
    for i, colour in enumerate([(200, 0, 0), (0, 0, 90), (255, 0, 0), (0, 0, 220)]):
        pixels = np.zeros((8, 8, 3), np.uint8)
        pixels[3, 5] = colour
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    found = exemplars(model, tmp_path, ["a1"], top=2)
    red, blue = found.of("a1", 1), found.of("a1", 2)
    assert [Path(e.image).name for e in red] == ["2.png", "0.png"]
    assert [Path(e.image).name for e in blue] == ["3.png", "1.png"]
    assert all(e.peak == (3, 5) and e.box == (2, 4, 5, 7) for e in red + blue)
    assert [e.value for e in red] == pytest.approx([1, 200 / 255])


# --- what is fed -----------------------------------------------------------------------------------------
def test_unreadable_pictures_are_reported_and_skipped(model: ox.Model, folder: Path) -> None:
    expected = exemplars(model, folder, LAYERS).of("features", 1)
    (folder / "05b.jpg").write_bytes(b"not a picture")
    (folder / "12b.png").write_bytes(b"")
    (folder / "notes.txt").write_text("not asked for")
    found = exemplars(model, folder, LAYERS)
    assert found.of("features", 1) == expected
    assert [Path(name).name for name, _ in found.skipped] == ["05b.jpg", "12b.png"]
    assert "05b.jpg" in found.skipped[0][1] and found.used == 21


def test_arrays_are_taken_one_each(model: ox.Model, tmp_path: Path) -> None:
    x = nets.images(3)
    np.save(tmp_path / "one.npy", x[0])
    np.save(tmp_path / "two.npy", x[1:])
    found = exemplars(model, [tmp_path / "one.npy", tmp_path / "two.npy"], ["features"])
    assert [Path(e.image).name for e in found.of("features", 0)] == ["one.npy"]
    assert "[2, 3, 8, 8]" in found.skipped[0][1]


def test_a_folder_of_arrays_for_a_model_that_takes_no_pictures(tmp_path: Path) -> None:
    proto = nets.conv_net("(float[N, 5, 8, 8] x) => (float[N, 4] y)", w1=(4, 5, 3, 3))
    x = nets.images(3, (5, 8, 8))
    for i, row in enumerate(x):
        np.save(tmp_path / f"{i}.npy", row)
    model = nets.load(proto)
    found = exemplars(model, tmp_path, ["features"]).of("features", 0)
    highest = model.values({"x": x}, ("features",))["features"][:, 0].max((1, 2))
    assert [int(Path(e.image).stem) for e in found] == np.argsort(-highest).tolist()
    assert found[0].box is None


def test_channels_last_and_vectors(folder: Path) -> None:
    proto = nets.nhwc_net()
    model = nets.load(proto, preprocess="unit")
    twin = exemplars(nets.load(nets.conv_net(), preprocess="unit"), folder, ["features", "a3"])
    found = exemplars(model, folder, ["features", "a3"])
    for name, channel in (("features", 3), ("a3", 1)):
        for a, b in zip(found.of(name, channel), twin.of(name, channel), strict=True):
            assert (a.image, a.peak, a.box) == (b.image, b.peak, b.box)
            assert a.value == pytest.approx(b.value, rel=1e-5)
    assert found.of("a3", 1)[0].box == (0, 0, 8, 8)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"top": 0}, ConfigError, "top = 0"),
        ({"layers": ["nowhere"]}, LayerError, "nowhere"),
        ({"layers": []}, LayerError, "a layer or more"),
        ({"data": "nowhere"}, InputError, "nowhere: no such file or folder"),
        ({"data": []}, InputError, "is no folder, file, array or list of paths"),
    ],
)
def test_refusals(
    model: ox.Model, folder: Path, change: dict[str, Any], error: Any, says: str
) -> None:
    with pytest.raises(error, match=says):
        exemplars(model, **({"data": folder, "layers": LAYERS} | change))


def test_only_what_was_looked_at_is_answered(model: ox.Model, folder: Path) -> None:
    found = exemplars(model, folder, ["a1"], top=1)
    for layer, channel in (("features", 0), ("a1", 4), ("a1", -1)):
        with pytest.raises(LayerError, match="no exemplars of channel"):
            found.of(layer, channel)


# --- how it runs -----------------------------------------------------------------------------------------
def test_one_batched_pass_that_stops_at_the_layers(
    model: ox.Model, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with nets.counted_runs(monkeypatch) as rows:
        exemplars(model, folder, LAYERS)
    assert rows == [16, 5]
    done: list[tuple[int, int]] = []
    run = Run(batch=16, progress=lambda i, n: done.append((i, n)))
    exemplars(model, folder, LAYERS, run=run)
    assert done == [(0, 21), (16, 21), (21, 21)]


def all_of(found: Any) -> list[Any]:
    return [found.of("features", k) for k in range(nets.CHANNELS)] + [list(found.skipped)]


def test_the_cache_answers_without_a_run(
    model: ox.Model, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    (folder / "05b.jpg").write_bytes(b"not a picture")
    fresh = exemplars(model, folder, LAYERS, run=Run(cache=cache))
    with nets.counted_runs(monkeypatch) as rows:
        again = exemplars(model, folder, LAYERS, run=Run(cache=cache))
    assert rows == [] and all_of(again) == all_of(fresh) and again.used == fresh.used
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("changed", ["picture", "layers", "top", "preprocess", "model"])
def test_the_cache_knows_what_it_depends_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    cache, layers, top, settings, seed = tmp_path / "cache", LAYERS, 4, "unit", 0
    exemplars(nets.load(nets.conv_net(), preprocess="unit"), folder, layers, run=Run(cache=cache))
    if changed == "picture":
        Image.new("RGB", (8, 8), "white").save(folder / "03.png")
    layers = LAYERS[:1] if changed == "layers" else layers
    top = 3 if changed == "top" else top
    settings = "imagenet" if changed == "preprocess" else settings
    seed = 1 if changed == "model" else seed
    proto = nets.build(nets.HEAD, nets.BODY, seed=seed, **nets.WEIGHTS)
    model = nets.load(proto, preprocess=settings)
    with nets.counted_runs(monkeypatch) as rows:
        found = exemplars(model, folder, layers, top=top, run=Run(cache=cache))
    assert sum(rows) == 21
    assert all_of(found) == all_of(exemplars(model, folder, layers, top=top))


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_cache_is_as_good_as_none(
    model: ox.Model, folder: Path, tmp_path: Path, damage: bytes | None
) -> None:
    cache = tmp_path / "cache"
    fresh = exemplars(model, folder, LAYERS, run=Run(cache=cache))
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-200] if damage is None else damage)
    assert all_of(exemplars(model, folder, LAYERS, run=Run(cache=cache))) == all_of(fresh)
    assert file.read_bytes() == whole


def test_an_interrupted_pass_goes_on(
    model: ox.Model, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "KEEP_EVERY", 0)
    how = Run(cache=tmp_path / "cache", batch=4, workers=1)
    count, run = [], Session.run

    def failing(self: Session, *args: Any, **kwargs: Any) -> Any:
        count.append(1)
        if len(count) == 5:
            raise KeyboardInterrupt
        return run(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "run", failing)
        with pytest.raises(KeyboardInterrupt):
            exemplars(model, folder, LAYERS, run=how)
    with nets.counted_runs(monkeypatch) as rows:
        found = exemplars(model, folder, LAYERS, run=how)
    assert sum(rows) == 21 - 16, "the first 16 pictures were kept"
    assert all_of(found) == all_of(exemplars(model, folder, LAYERS))

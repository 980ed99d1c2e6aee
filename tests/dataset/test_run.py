"""A pass: the same result however it is cut, whoever works, and wherever it was interrupted."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import onnxplain as ox
from onnxplain.dataset import Batch, Job, Partial, Run
from onnxplain.dataset import run as module
from onnxplain.errors import ConfigError, InputError, ModelError
from tests import nets
from tests.dataset import made


@dataclass(frozen=True)
class Rows(Job):
    """What came in, row by row; fails at some item, if told to."""

    fails_at: int = -1
    name: ClassVar[str] = "rows"

    def map(self, models: Sequence[ox.Model], batch: Batch) -> Partial:
        if self.fails_at in batch.numbers:
            raise ModelError("as told")
        logits = [m.predict(x).logits for m, x in zip(models, batch.inputs, strict=True)]
        return {
            "numbers": batch.numbers,
            "labels": batch.labels,
            "digests": batch.digests,
            "logits": np.stack(logits, 1),
        }

    def merge(self, a: Partial, b: Partial) -> Partial:
        return {k: np.concatenate([a[k], b[k]]) for k in a}

    def key(self) -> Any:
        return []


@pytest.fixture
def model() -> ox.Model:
    return nets.load(nets.conv_net(), preprocess="unit", labels=made.CLASSES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made.by_class(tmp_path / "data")


@pytest.mark.parametrize("batch", [1, 2, 5, 13, 64])
@pytest.mark.parametrize("workers", [1, 2, 5, None])
def test_cut_and_workers_do_not_matter(
    model: ox.Model, folder: Path, batch: int, workers: int | None
) -> None:
    found = Run(workers=workers, batch=batch).over(folder, model, Rows())
    paths = sorted(p for p in folder.rglob("*.png"))
    expected = model.predict(model.read(paths)).logits
    assert (found.used, found.skipped, found.note) == (made.COUNT, (), None)
    np.testing.assert_array_equal(found.partial["numbers"], np.arange(made.COUNT))
    np.testing.assert_array_equal(found.partial["labels"], sorted(made.labels()))
    np.testing.assert_allclose(found.partial["logits"][:, 0], expected, rtol=1e-5, atol=1e-6)


def test_several_models_are_fed_each_in_its_own_way(model: ox.Model, folder: Path) -> None:
    other = nets.load(nets.nhwc_net(), preprocess="inception")
    found = Run(batch=4).over(folder, [model, other], Rows()).partial["logits"]
    paths = sorted(p for p in folder.rglob("*.png"))
    for i, m in enumerate((model, other)):
        np.testing.assert_allclose(
            found[:, i], m.predict(m.read(paths)).logits, rtol=1e-5, atol=1e-6
        )


def test_digests_follow_the_content(model: ox.Model, folder: Path) -> None:
    paths = sorted(p for p in folder.rglob("*.png"))
    there = Run().over(paths, model, Rows()).partial["digests"]
    back = Run().over(paths[::-1], model, Rows()).partial["digests"]
    np.testing.assert_array_equal(there, back[::-1])
    assert len(set(there.tolist())) == made.COUNT


def test_what_cannot_be_read_is_skipped_and_counted(model: ox.Model, tmp_path: Path) -> None:
    folder = made.flat(tmp_path / "data")
    whole = Run(batch=3).over(folder, model, Rows())
    (folder / "03b.png").write_bytes(b"not a picture")
    (folder / "07b.jpg").write_bytes(b"")
    found = Run(batch=3).over(folder, model, Rows())
    assert [(s.number, Path(s.name).name) for s in found.skipped] == [
        (4, "03b.png"),
        (9, "07b.jpg"),
    ]
    assert all("b." in s.reason for s in found.skipped)
    assert found.used == made.COUNT and found.meta["skipped"] == 2
    np.testing.assert_array_equal(found.partial["logits"], whole.partial["logits"])


def test_nothing_of_use_is_an_error(model: ox.Model, tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(b"no")
    with pytest.raises(InputError, match=r"none of 3 items can be used: .*0.png: not a picture"):
        Run().over(tmp_path, model, Rows())


def test_an_error_of_the_job_ends_the_pass(model: ox.Model, folder: Path) -> None:
    with pytest.raises(ModelError, match="as told"):
        Run(batch=2, workers=2).over(folder, model, Rows(fails_at=5))
    assert not [t for t in threading.enumerate() if t.name.startswith("onnxplain-pass")]


@pytest.mark.parametrize(
    "options",
    [{"engine": "cloud"}, {"workers": 0}, {"batch": 0}, {"batch": 2.5}, {"workers": True}],
)
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        Run(**options)


def test_progress_counts_to_the_end(model: ox.Model, folder: Path) -> None:
    told: list[tuple[int, int]] = []
    Run(batch=5, progress=lambda done, of: told.append((done, of))).over(folder, model, Rows())
    assert told == [(0, 13), (5, 13), (10, 13), (13, 13)]


# --- kept on disk --------------------------------------------------------------------------------------
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record which items are worked on from now on."""
    numbers: list[int] = []
    original = Rows.map

    def recording(self: Rows, models: Sequence[ox.Model], batch: Batch) -> Partial:
        numbers.extend(batch.numbers.tolist())
        return original(self, models, batch)

    monkeypatch.setattr(Rows, "map", recording)
    return numbers


@pytest.mark.parametrize("batch_after", [2, 3, 64])
def test_an_interrupted_pass_goes_on(
    model: ox.Model, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_after: int
) -> None:
    (folder / "ant" / "00b.png").write_bytes(b"not a picture")
    whole = Run().over(folder, model, Rows())

    def interrupt(done: int, of: int) -> None:
        if done >= 6:
            raise KeyboardInterrupt

    cache = tmp_path / "cache"
    with pytest.raises(KeyboardInterrupt):
        Run(batch=2, workers=1, cache=cache, progress=interrupt).over(folder, model, Rows())
    numbers = seen(monkeypatch)
    again = Run(batch=batch_after, workers=2, cache=cache).over(folder, model, Rows())
    assert min(numbers) == 6 and len(numbers) == len(set(numbers)), "nothing is done twice"
    assert again.skipped == whole.skipped and again.used == whole.used
    np.testing.assert_array_equal(again.partial["numbers"], whole.partial["numbers"])
    np.testing.assert_allclose(again.partial["logits"], whole.partial["logits"], rtol=1e-5)
    numbers.clear()
    last = Run(cache=cache).over(folder, model, Rows())
    assert numbers == [] and last.skipped == whole.skipped
    np.testing.assert_array_equal(last.partial["logits"], again.partial["logits"])
    assert len(list(cache.iterdir())) == 1


def test_a_failing_pass_keeps_what_it_found(
    model: ox.Model, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(batch=2, workers=1, cache=tmp_path / "cache")
    with pytest.raises(ModelError):
        run.over(folder, model, Rows(fails_at=9))
    numbers = seen(monkeypatch)
    run.over(folder, model, Rows())
    assert min(numbers) == 8


def test_it_is_written_while_it_runs(
    model: ox.Model, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed without a last word, a pass loses no more than KEEP_EVERY seconds."""
    monkeypatch.setattr(module, "KEEP_EVERY", 0)
    cache, kept = tmp_path / "cache", []

    def look(done: int, of: int) -> None:
        kept.append(sum(1 for _ in cache.glob("rows-*.npz")) if cache.exists() else 0)

    Run(batch=5, cache=cache, progress=look).over(folder, model, Rows())
    assert kept == [0, 0, 1, 1]


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_file_is_as_good_as_none(
    model: ox.Model, folder: Path, tmp_path: Path, damage: bytes | None
) -> None:
    cache = tmp_path / "cache"
    fresh = Run(cache=cache).over(folder, model, Rows())
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-100] if damage is None else damage)
    again = Run(cache=cache).over(folder, model, Rows())
    np.testing.assert_array_equal(again.partial["logits"], fresh.partial["logits"])
    assert file.read_bytes() == whole


@pytest.mark.parametrize("changed", ["data", "preprocess", "model", "labels", "job", "nothing"])
def test_the_file_knows_what_it_depends_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    cache = tmp_path / "cache"
    settings: dict[str, Any] = {"preprocess": "unit", "labels": made.CLASSES}
    Run(cache=cache).over(folder, nets.load(nets.conv_net(), **settings), Rows())
    if changed == "data":
        (folder / "ant" / "00.png").write_bytes(made.png(made.pixels()[1]))
    if changed == "preprocess":
        settings["preprocess"] = "imagenet"
    if changed == "labels":
        settings["labels"] = made.CLASSES[::-1]
    if changed == "job":
        monkeypatch.setattr(Rows, "version", 2)
    seed = 1 if changed == "model" else 0
    model = nets.load(nets.build(nets.HEAD, nets.BODY, seed=seed, **nets.WEIGHTS), **settings)
    numbers = seen(monkeypatch)
    Run(cache=cache).over(folder, model, Rows())
    assert len(numbers) == (0 if changed == "nothing" else made.COUNT)


def test_two_passes_at_once(model: ox.Model, folder: Path) -> None:
    alone = Run(batch=2).over(folder, model, Rows()).partial["logits"]
    found: list[np.ndarray] = []
    threads = [
        threading.Thread(
            target=lambda: found.append(Run(batch=2).over(folder, model, Rows()).partial["logits"])
        )
        for _ in range(3)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(found) == 3
    for other in found:
        np.testing.assert_allclose(other, alone, rtol=1e-5, atol=1e-6)

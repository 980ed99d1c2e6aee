"""The same job on a Ray cluster: the same answer, also when a worker is killed in the middle."""

from __future__ import annotations

import os
import signal
import socket
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import onnxplain as ox
from onnxplain.dataset import Batch, Partial, Run, on_ray
from onnxplain.errors import ConfigError, UnsupportedOpError, WorkerError
from tests import nets
from tests.dataset import made
from tests.dataset.test_run import Rows

if find_spec("ray") is None:
    pytest.skip("the [ray] extra is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Start a cluster of two CPUs on this machine, which `Run` then finds connected."""
    ray = on_ray.import_ray()
    root = str(Path(__file__).resolve().parents[2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.init(
            num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False,
            runtime_env={"env_vars": {"PYTHONPATH": root}},
        )  # fmt: skip
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.shutdown()


@pytest.fixture
def model() -> ox.Model:
    return nets.load(nets.conv_net(), preprocess="unit", labels=made.CLASSES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made.by_class(tmp_path / "data")


@dataclass(frozen=True)
class Deadly(Rows):
    """Kills its own process at an item, once: while no file says that this has happened."""

    told: str = ""
    at: int = 5
    always: bool = False
    name: ClassVar[str] = "deadly"

    def map(self, models: Sequence[ox.Model], batch: Batch) -> Partial:
        if self.at in batch.numbers and (self.always or not Path(self.told).exists()):
            Path(self.told).write_text(str(os.getpid()))
            time.sleep(0.2)  # let pieces queue up behind
            os.kill(os.getpid(), signal.SIGKILL)
        return super().map(models, batch)


@dataclass(frozen=True)
class Refusing(Rows):
    """Raises an error that takes more than a message."""

    name: ClassVar[str] = "refusing"

    def map(self, models: Sequence[ox.Model], batch: Batch) -> Partial:
        raise UnsupportedOpError("Loop", "node7", "as told")


@pytest.mark.parametrize("workers", [1, 2])
def test_as_without_ray(cluster: None, model: ox.Model, folder: Path, workers: int) -> None:
    (folder / "ant" / "00b.png").write_bytes(b"not a picture")
    local = Run(batch=3).over(folder, model, Rows())
    found = Run("ray", workers, batch=3).over(folder, model, Rows())
    assert found.used == local.used
    assert [s[:2] for s in found.skipped] == [s[:2] for s in local.skipped]
    for name, array in local.partial.items():
        np.testing.assert_allclose(found.partial[name], array, rtol=1e-6, atol=1e-6)


def test_filters_as_without_ray(cluster: None, model: ox.Model, folder: Path) -> None:
    for mode in ("exact", "first_order"):
        local = ox.filter_importance(model, folder, mode=mode, run=Run(workers=1, batch=4))  # type: ignore[arg-type]
        found = ox.filter_importance(model, folder, mode=mode, run=Run("ray", 2, batch=5))  # type: ignore[arg-type]
        for mine, theirs in zip(found.layers, local.layers, strict=True):
            np.testing.assert_allclose(mine.per_class, theirs.per_class, atol=1e-6)
    here = ox.feature_correlation(model, folder, run=Run(workers=1))
    there = ox.feature_correlation(model, folder, run=Run("ray", 2, batch=3))
    np.testing.assert_allclose(there.correlation, here.correlation, atol=1e-6)


def test_the_answer_survives_a_killed_worker(
    cluster: None, model: ox.Model, folder: Path, tmp_path: Path
) -> None:
    told = tmp_path / "killed"
    found = Run("ray", 2, batch=2).over(folder, model, Deadly(told=str(told)))
    assert told.exists() and int(told.read_text()) != os.getpid()
    local = Run().over(folder, model, Rows())
    assert found.used == made.COUNT
    np.testing.assert_array_equal(found.partial["numbers"], np.arange(made.COUNT))
    np.testing.assert_allclose(found.partial["logits"], local.partial["logits"], rtol=1e-6)


def test_a_piece_that_kills_every_worker_is_given_up(
    cluster: None, model: ox.Model, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray, "TRIES", 2)
    job = Deadly(told=str(tmp_path / "killed"), always=True)
    with pytest.raises(WorkerError, match="2 workers died at items 4 to 5 of the data"):
        Run("ray", 1, batch=2, cache=tmp_path / "cache").over(folder, model, job)
    # What was found before is kept, and another engine goes on from there.
    done: list[int] = []
    run = Run(workers=1, batch=2, cache=tmp_path / "cache", progress=lambda i, n: done.append(i))
    monkeypatch.setattr(Deadly, "map", Rows.map)
    assert run.over(folder, model, job).used == made.COUNT
    assert done[0] == 4


def test_errors_arrive_as_they_are(cluster: None, model: ox.Model, folder: Path) -> None:
    with pytest.raises(UnsupportedOpError, match=r"Loop \(node 'node7'\) .* as told") as caught:
        Run("ray", 1).over(folder, model, Refusing())
    assert caught.value.node == "node7"


def test_no_cluster_there(model: ox.Model, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise ConnectionError("nobody answers")

    monkeypatch.setattr(on_ray, "_knock", lambda address: None)

    ray = on_ray.import_ray()
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(ConfigError, match=r"no Ray cluster at 10.0.0.1:6379: nobody answers"):
        Run("ray", address="10.0.0.1:6379").over(folder, model, Rows())


def test_an_evaluation_as_without_ray(cluster: None, model: ox.Model, folder: Path) -> None:
    """Its job holds boxes, its models make shuffled twins: all of that travels or is made there."""
    boxes = {path.name: {"size": (8, 8), "boxes": [(1, 1, 5, 5)]} for path in folder.rglob("*.png")}
    asked = (["lift_cam"], ["deletion", "iou", "weight_randomisation"])
    local = ox.evaluate(model, folder, *asked, Run(batch=3), boxes=boxes)
    found = ox.evaluate(model, folder, *asked, Run("ray", 2, batch=4), boxes=boxes)
    assert found.images == local.images and local.present.any((0, 1, 2)).all()
    np.testing.assert_array_equal(found.present, local.present)
    np.testing.assert_allclose(found.values, local.values, rtol=1e-5, atol=1e-6)


def test_nobody_listens_there(
    model: ox.Model, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said at once, not after Ray's own minutes."""
    monkeypatch.setattr(on_ray.import_ray(), "is_initialized", lambda: False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"no Ray cluster at {address}: .*refused"):
            Run("ray", address=address).over(folder, model, Rows())

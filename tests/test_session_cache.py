"""Optimised graphs kept on disk: what is found there, what is not, and what happens to damaged ones."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

import onnxplain as ox
from onnxplain import session_cache
from onnxplain.bundled import model_path
from onnxplain.errors import ConfigError
from onnxplain.methods.registry import explain
from onnxplain.session_cache import GRAPH, WEIGHTS, SessionCache
from tests import nets

NET = model_path()
X = nets.images(2, (3, 32, 32))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Note what every session is made of: bytes, or the path of a kept graph."""
    sources: list[Any] = []
    make = ort.InferenceSession

    def noted(model: Any, *args: Any, **kwargs: Any) -> Any:
        sources.append(model)
        return make(model, *args, **kwargs)

    monkeypatch.setattr(ort, "InferenceSession", noted)
    return sources


def load(cache: Path | None, source: Any = NET) -> ox.Model:
    return ox.load(source, device="cpu", threads=1, cache=cache)


def entries(cache: Path) -> list[Path]:
    return sorted(cache.iterdir())


def gradient(cache: Path | None, source: Any = NET) -> np.ndarray:
    return ox.gradient(load(cache, source), X, 3).values


@pytest.mark.parametrize("name", [NET.name, "vgg_cifar10_int8.onnx"])
@pytest.mark.parametrize("method", ["gradient", "active", "lift_cam", "ablation_cam"])
def test_a_second_process_gets_the_same_numbers_from_kept_graphs(
    name: str, method: str, tmp_path: Path, made: list[Any]
) -> None:
    path = model_path(name)
    expected = explain(load(None, path), X, method, 3)
    first = explain(load(tmp_path, path), X, method, 3)
    kept = entries(tmp_path)
    assert kept
    assert all(isinstance(source, bytes) for source in made), "the first makes them all"
    made.clear()
    second = explain(load(tmp_path, path), X, method, 3)
    found = {Path(source).parent for source in made if isinstance(source, str)}
    assert found == set(kept) == set(entries(tmp_path))
    np.testing.assert_array_equal(first.values, expected.values)
    np.testing.assert_array_equal(second.values, expected.values)


def test_no_cache_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONNXPLAIN_CACHE", raising=False)
    assert load(None).executor.cache is None
    monkeypatch.setenv("ONNXPLAIN_CACHE", str(tmp_path / "named" / "here"))
    gradient(None)
    assert entries(tmp_path / "named" / "here")
    gradient(tmp_path / "given")
    assert entries(tmp_path / "given"), "what is given comes first"


def test_other_weights_are_another_graph(tmp_path: Path) -> None:
    """Two files of the same structure, and a copy with its weights shuffled."""
    one, two = (wide(seed) for seed in (0, 1))
    x = nets.images(1, (3, 8, 8))

    def found(model: ox.Model) -> np.ndarray:
        return ox.gradient(model, x, 1).values

    for source in (one, two):
        for _ in range(2):
            np.testing.assert_array_equal(found(load(tmp_path, source)), found(load(None, source)))
    assert len(entries(tmp_path)) == 2
    twins = [load(cache, one).shuffled() for cache in (tmp_path, tmp_path, None)]
    first, second, expected = map(found, twins)
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(second, expected)
    assert not np.array_equal(expected, found(load(None, one)))
    assert len(entries(tmp_path)) == 3


def wide(seed: int) -> Any:
    """A net with weights large enough to lie beside its graph."""
    return nets.build(
        "(float[N, 3, 8, 8] x) => (float[N, 4] z)",
        "c = Conv<pads = [1, 1, 1, 1]>(x, w) r = Relu(c) f = Flatten(r) z = Gemm<transB = 1>(f, v)",
        seed=seed,
        w=(128, 3, 3, 3),
        v=(4, 128 * 64),
    )


def test_the_key_tells_code_versions_and_processors_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {session_cache.key_of(graph, pack) for graph in (b"a", b"b") for pack in (True, False)}
    assert len(keys) == 4
    assert session_cache.key_of(b"a", True) in keys, "and nothing that changes from call to call"
    for name, value in {
        "__version__": "9",
        "_code": lambda: (("changed.py", 1, 1),),
        "_processor": lambda: "another",
    }.items():
        with monkeypatch.context() as changed:
            changed.setattr(session_cache, name, value)
            assert session_cache.key_of(b"a", True) not in keys


@pytest.mark.parametrize("name", [GRAPH, WEIGHTS, "sizes.json"])
@pytest.mark.parametrize("damage", ["shorter", "gone"])
def test_a_damaged_entry_is_made_anew(
    name: str, damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = gradient(tmp_path)
    (entry,) = entries(tmp_path)
    if damage == "gone":
        (entry / name).unlink()
    else:
        (entry / name).write_bytes((entry / name).read_bytes()[:-10])
    np.testing.assert_array_equal(gradient(tmp_path), expected)
    assert [r.message for r in caplog.records if "is made anew" in r.message]
    caplog.clear()
    np.testing.assert_array_equal(gradient(tmp_path), expected)
    assert not caplog.records


def test_a_kept_graph_that_onnxruntime_refuses_is_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = gradient(tmp_path)
    (entry,) = entries(tmp_path)
    graph = entry / GRAPH
    graph.write_bytes(bytes(graph.stat().st_size))  # as long as it was
    np.testing.assert_array_equal(gradient(tmp_path), expected)
    assert "is made anew: onnxruntime cannot run this model" in caplog.text


def test_the_entries_not_used_for_longest_make_room(tmp_path: Path) -> None:
    cache = SessionCache(tmp_path, most=2500)
    for i in range(2):
        keep(cache, f"k{i}", 1000)
    os.utime(tmp_path / "k0", (1, 1))
    os.utime(tmp_path / "k1", (2, 2))
    assert cache.find("k0") is not None, "and is now the one used last"
    keep(cache, "k2", 1000)
    assert [e.name for e in entries(tmp_path)] == ["k0", "k2"]


def test_an_entry_larger_than_the_cache_is_not_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keep(SessionCache(tmp_path, most=500), "k", 1000)
    assert entries(tmp_path) == []
    assert "needs more than the 0 MB left" in caplog.text


def keep(cache: SessionCache, key: str, size: int) -> None:
    with cache.adding(key, size) as folder:
        if folder is not None:
            (folder / GRAPH).write_bytes(bytes(size // 2))
            (folder / WEIGHTS).write_bytes(bytes(size // 2))


def test_whoever_is_second_keeps_what_the_first_has_made(tmp_path: Path) -> None:
    cache = SessionCache(tmp_path)
    with cache.adding("k", 10) as slow:
        assert slow is not None
        keep(cache, "k", 10)
        kept = (tmp_path / "k").stat().st_ino
        (slow / GRAPH).write_bytes(b"1")
        (slow / WEIGHTS).write_bytes(b"2")
    assert [e.name for e in entries(tmp_path)] == ["k"]
    assert (tmp_path / "k").stat().st_ino == kept


def test_what_a_killed_process_was_writing_is_removed(tmp_path: Path) -> None:
    cache = SessionCache(tmp_path)
    for name in (".killed", ".writing"):
        (tmp_path / name).mkdir()
        (tmp_path / name / WEIGHTS).write_bytes(bytes(10))
    os.utime(tmp_path / ".killed", (1, 1))
    keep(cache, "k", 10)
    assert [e.name for e in entries(tmp_path)] == [".writing", "k"]


def test_a_folder_that_may_only_be_read_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = gradient(tmp_path)
    made = entries(tmp_path)

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse_new(Path.mkdir))
    np.testing.assert_array_equal(gradient(tmp_path), expected)
    assert not caplog.records
    explain(load(tmp_path), X, "lift_cam", 3)
    assert "nothing is kept" in caplog.text and "Permission denied" in caplog.text
    assert entries(tmp_path) == made


def test_a_folder_that_may_not_be_looked_into_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = gradient(None)
    model = load(tmp_path)

    def refuse(*_: Any, **__: Any) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", refuse)
    monkeypatch.setattr(Path, "iterdir", refuse)
    np.testing.assert_array_equal(ox.gradient(model, X, 3).values, expected)
    assert "nothing is kept: [Errno 13] Permission denied" in caplog.text


def refuse_new(mkdir: Any) -> Any:
    """Path.mkdir of a user who may not write: it finds what is there, and makes nothing."""

    def made(path: Path, *args: Any, **kwargs: Any) -> None:
        if not path.exists():
            raise PermissionError(13, "Permission denied")
        mkdir(path, *args, **kwargs)

    return made


def test_nothing_is_kept_of_what_failed(tmp_path: Path) -> None:
    cache = SessionCache(tmp_path)
    with pytest.raises(RuntimeError, match="no"), cache.adding("k", 10) as folder:
        assert folder is not None
        raise RuntimeError("no")
    assert entries(tmp_path) == []


def test_a_cache_that_cannot_be_made(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for folder in (file, file / "below"):
        with pytest.raises(ConfigError, match=f"the cache {folder} cannot be made"):
            load(folder)


def test_a_disk_that_fills_up_costs_nothing_but_the_entry(tmp_path: Path) -> None:
    """onnxruntime does not look whether the disk took what it wrote; a limit on files does the same."""
    pytest.importorskip("resource")
    script = (
        "import resource, signal, sys, numpy as np, onnxplain as ox\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "model = ox.load(sys.argv[1], device='cpu', threads=1, cache=sys.argv[2])\n"
        "x = np.random.default_rng(1).normal(size=(2, 3, 32, 32)).astype(np.float32)\n"
        "print(repr(float(np.abs(ox.gradient(model, x, 3).values).sum())))\n"
    )
    command = [sys.executable, "-c", script, str(NET), str(tmp_path)]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    assert float(ran.stdout) == float(np.abs(gradient(None)).sum())
    assert "nothing is kept" in ran.stderr and len(ran.stderr.splitlines()) == 1
    assert entries(tmp_path) == []
    np.testing.assert_array_equal(gradient(tmp_path), gradient(tmp_path))
    assert len(entries(tmp_path)) == 1


def test_the_cache_travels_to_workers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    model = load(tmp_path)
    twin = pickle.loads(pickle.dumps(model))
    assert twin.executor.cache.folder == tmp_path
    np.testing.assert_array_equal(ox.gradient(twin, X, 3).values, gradient(None))
    assert len(entries(tmp_path)) == 1
    assert not caplog.records

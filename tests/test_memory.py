"""How much memory is left, and that batches shrink to it without changing a number."""

from __future__ import annotations

from math import inf
from pathlib import Path

import numpy as np
import pytest

import onnxplain as ox
from onnxplain import memory
from tests import nets

MEMINFO = "MemTotal:  8000000 kB\nMemFree:  100 kB\nMemAvailable:  2000 kB\n"


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for what Linux tells; empty."""
    monkeypatch.setattr(memory, "_MACHINE", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CONTAINER", tmp_path / "cgroup")
    (tmp_path / "cgroup" / "memory").mkdir(parents=True)
    return tmp_path


def test_nobody_tells(system: Path) -> None:
    assert memory.available() == inf
    (system / "meminfo").write_text("MemTotal: 8 kB\n")
    assert memory.available() == inf


def test_the_machine_alone(system: Path) -> None:
    (system / "meminfo").write_text(MEMINFO)
    assert memory.available() == 2000 * 1024
    (system / "cgroup" / "memory.max").write_text("max\n")
    (system / "cgroup" / "memory.current").write_text("5\n")
    (system / "cgroup" / "memory.stat").write_text("inactive_file 7\n")
    assert memory.available() == 2000 * 1024, "a container without a limit"


@pytest.mark.parametrize(
    "names",
    [
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ],
)
def test_a_container_with_a_limit(system: Path, names: tuple[str, str, str]) -> None:
    (system / "meminfo").write_text(MEMINFO)
    told = ("10000\n", "7000\n", "anon 5000\ninactive_file 2000\nactive_file 1\n")
    for name, text in zip(names, told, strict=True):
        (system / "cgroup" / name).write_text(text)
    assert memory.available() == 5000


def test_this_machine_tells_something_plausible() -> None:
    assert memory.available() > 1e6


def test_all_activations_of_an_image_are_counted() -> None:
    body = "a = Conv(x, w) g = GlobalAveragePool(a) z = Flatten(g)"
    model = nets.load(nets.build("(float[N,3,8,8] x) => (float[N,4] z)", body, w=(4, 3, 3, 3)))
    assert model.graph.bytes_per_image == 4 * (4 * 6 * 6 + 4 + 4)


def test_sizes_that_stay_open_are_not_counted() -> None:
    body = """
        s = ReduceSum<keepdims = 0>(x)
        zero = Constant<value_float = 0.0>()
        c = Greater(s, zero)
        p = If(c) <
            then_branch = t () => (float[N, K] u) { u = Mul(x, x) },
            else_branch = e () => (float[N, L] v) { v = Add(x, x) }
        >
        z = Mul(x, x)
    """
    model = nets.load(nets.build("(float[N, 5] x) => (float[N, 5] z, float[N, M] p)", body))
    assert model.graph.bytes_per_image == 4 * 5


@pytest.mark.parametrize("images", [1, 3])
def test_little_memory_makes_small_batches_of_the_same_numbers(
    images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = nets.load(nets.conv_net()), nets.images(7)
    whole = [
        ox.gradient(model, x).values,
        ox.saliency(model, x, kind="active", classes="all").values,
    ]
    tree = ox.decompose(model, x[:1])
    room = 2 * images * model.graph.bytes_per_image
    monkeypatch.setattr("onnxplain.batching.SMALL", 0)
    monkeypatch.setattr("onnxplain.memory.available", lambda: room + 1)
    assert model.at_once(16) == images
    assert [len(rows["x"]) for rows in model.batches({"x": x})] == [images] * (7 // images) + (
        [7 % images] if 7 % images else []
    )
    parts = [
        ox.gradient(model, x).values,
        ox.saliency(model, x, kind="active", classes="all").values,
    ]
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    again = ox.decompose(model, x[:1])
    assert sorted(again.graph.nodes) == sorted(tree.graph.nodes)
    monkeypatch.setattr("onnxplain.memory.available", lambda: 0.0)
    assert model.at_once(16) == 1, "one image is always tried"

"""Devices, sessions and their errors; the device path with the CPU's memory in the place of a GPU's."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch

import onnxplain as ox
from onnxplain import memory
from onnxplain.errors import ConfigError, ModelError
from onnxplain.executor import SHAPES, Executor, Session, runtime_version
from onnxplain.methods.registry import METHODS, explain
from tests import nets

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


@pytest.fixture
def without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make onnxruntime one that was built for the CPU."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CPU])


# --- settings ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("device", ["gpu", "CUDA", "cuda:0", "", None])
def test_unknown_device(device: Any) -> None:
    with pytest.raises(ConfigError, match=r"device .* is unknown: choose auto, cpu or cuda"):
        Executor(device)


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2", True])
def test_threads_must_be_a_positive_whole_number(threads: Any) -> None:
    with pytest.raises(ConfigError, match=f"threads must be .*{threads}"):
        ox.load(nets.conv_net(), device="cpu", threads=threads)


@pytest.mark.usefixtures("without_cuda")
def test_cuda_that_is_not_there_is_an_error_only_when_insisted_on() -> None:
    with pytest.raises(
        ConfigError, match=r'"cuda" is not usable: .*onnxruntime-gpu.*use device="auto"'
    ):
        ox.load(nets.conv_net(), device="cuda")
    assert ox.load(nets.conv_net(), device="auto").providers == (CPU,)


def test_a_silent_fallback_to_the_cpu_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As onnxruntime does where CUDA's libraries are missing: it lists CUDA, and gives the CPU."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr("onnxplain.executor._has_nvidia_device", lambda: True)
    monkeypatch.setattr(ort, "preload_dlls", lambda: None, raising=False)
    make = ort.InferenceSession
    monkeypatch.setattr(
        ort, "InferenceSession", lambda model, *_, **__: make(model, providers=[CPU])
    )
    with pytest.raises(ConfigError, match='"cuda" is not usable: onnxruntime fell back to the CPU'):
        Executor("cuda")
    assert ox.load(nets.conv_net(), device="auto").providers == (CPU,)


def test_the_providers_told_are_those_of_the_session() -> None:
    model = nets.load(nets.conv_net())
    session = model.program(("z",), ("x",)).forward_session
    assert model.providers == session.providers == tuple(session._session.get_providers()) == (CPU,)
    assert not session.on_device


def test_threads_reach_onnxruntime() -> None:
    program = nets.load(nets.conv_net()).program(("z",), ("x",))
    assert program.forward_session._session.get_session_options().intra_op_num_threads == 1


# --- sessions ------------------------------------------------------------------------------------------
def test_a_model_that_onnxruntime_refuses() -> None:
    proto = nets.build("(float[N, 4] x) => (float[N, 4] y)", "y = Swirl(x)")
    with pytest.raises(ModelError, match=r"onnxruntime cannot run this model: .*Swirl") as error:
        Executor("cpu").session(proto.SerializeToString())
    assert "\n" not in str(error.value)


def test_feeds_that_onnxruntime_refuses() -> None:
    session = Executor("cpu").session(nets.conv_net().SerializeToString())
    for x in (np.zeros((1, 2, 8, 8), np.float32), np.zeros((1, 3, 8, 8)), np.float32(1)):
        with pytest.raises(ModelError, match="onnxruntime failed on this model: ") as error:
            session.run({"x": x})
        assert "\n" not in str(error.value)


def test_feeds_that_are_not_asked_for_are_left_out() -> None:
    session = Executor("cpu").session(nets.conv_net().SerializeToString())
    x = nets.images()
    found = session.run({"x": x, "other": np.zeros(3)})
    expected = ort.InferenceSession(
        nets.conv_net().SerializeToString(), providers=[CPU]
    ).run(None, {"x": x})  # fmt: skip
    assert list(found) == ["y"]
    np.testing.assert_allclose(found["y"], expected[0], rtol=1e-6)


def test_runtime_version() -> None:
    assert runtime_version() == ort.__version__


# --- results that stay on the device -------------------------------------------------------------------
class Binding:
    """An IO binding that notes what is bound where, and binds to the CPU what should go to CUDA."""

    def __init__(self, binding: Any) -> None:
        self.inner, self.outputs, self.inputs = binding, {}, {}

    def bind_cpu_input(self, name: str, value: Any) -> None:
        assert isinstance(value, np.ndarray) and value.flags.c_contiguous
        self.inputs[name] = "cpu"
        self.inner.bind_cpu_input(name, value)

    def bind_ortvalue_input(self, name: str, value: Any) -> None:
        assert isinstance(value, ort.OrtValue)
        self.inputs[name] = "cuda"
        self.inner.bind_ortvalue_input(name, value)

    def bind_output(self, name: str, device: str) -> None:
        self.outputs[name] = device
        self.inner.bind_output(name, "cpu")

    def get_outputs(self) -> Any:
        return self.inner.get_outputs()


class PretendCuda:
    """A real session on the CPU that says it is on CUDA: everything but the memory is as there."""

    def __init__(self, session: Any) -> None:
        self._session, self.bindings = session, []

    def get_providers(self) -> list[str]:
        return [CUDA, CPU]

    def io_binding(self) -> Binding:
        self.bindings.append(Binding(self._session.io_binding()))
        return self.bindings[-1]

    def run_with_iobinding(self, binding: Binding) -> None:
        self._session.run_with_iobinding(binding.inner)

    def run(self, *_: Any) -> None:
        raise AssertionError("on a device everything runs through an IO binding")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[PretendCuda]]:
    """Let every executor make sessions that pretend; yield them."""
    made: list[PretendCuda] = []
    make = Executor.session

    def session(self: Executor, model: bytes, optimize: bool = True) -> Session:
        made.append(PretendCuda(make(self, model, optimize)._session))
        return Session(made[-1])

    with monkeypatch.context() as patch:
        patch.setattr(Executor, "session", session)
        patch.setattr(Executor, "on_cpu", False)
        yield made


@contextmanager
def on_the_cpu() -> Iterator[None]:
    """Stop pretending."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "on_device", False)
        patch.setattr(Executor, "on_cpu", True)
        patch.setattr(PretendCuda, "run", lambda self, *a: self._session.run(*a))
        yield


def test_residuals_stay_on_the_device(pretended: list[PretendCuda]) -> None:
    program = nets.load(nets.conv_net()).program(("z",), ("features",))
    x = nets.images().transpose(0, 1, 3, 2)  # not contiguous
    linearized = program.forward({"x": x})
    found = linearized.backward({"z": np.ones((3, 4), np.float32)})["features"]
    forward, backward = (session.bindings[0] for session in pretended)
    kept = {r for r in program.pair.residuals if r != "features"}
    assert kept and forward.inputs == {"x": "cpu"}
    assert forward.outputs == {"z": "cpu", "features": "cpu", **dict.fromkeys(kept, "cuda")}
    assert {k for k, v in backward.inputs.items() if v == "cuda"} == kept
    assert backward.outputs == {"gradient(features)": "cpu"}
    assert isinstance(linearized["z"], np.ndarray)
    assert all(isinstance(linearized.values[name], ort.OrtValue) for name in kept)
    w, at = nets.weights_of(nets.conv_net()), nets.double(linearized["features"])
    (expected,) = torch.autograd.grad(nets.torch_head(w, at).sum(), at)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_through_bindings(method: str, pretended: list[PretendCuda]) -> None:
    x = nets.images(2)
    found = explain(nets.load(nets.conv_net()), x, method)
    assert found.meta["providers"] == (CUDA, CPU) and pretended
    with on_the_cpu():
        expected = explain(nets.load(nets.conv_net()), x, method)
    np.testing.assert_array_equal(found.values, expected.values)


@pytest.mark.parametrize("seed", ["path", "root", "sum"])
@pytest.mark.parametrize("weight", ["signed", "positive", "mean"])
def test_a_decomposition_leaves_little_on_the_device(
    seed: Any, weight: Any, pretended: list[PretendCuda]
) -> None:
    """Gradients stay there, seeds go in as planes; the hierarchy is that of the CPU."""
    asked = {"layers": ["features", "a"], "seed": seed, "weight": weight, "min_share": 0.0}
    x = 3 * nets.images(1)
    found = ox.decompose(nets.load(two_levels()), x, **asked)
    bound = [b for s in pretended for b in s.bindings if "signal" in b.outputs]
    assert bound and all(b.outputs["signal"] == "cuda" for b in bound)
    assert not any(
        name.startswith("gradient(") for s in pretended for b in s.bindings for name in b.outputs
    )
    below = [b for b in bound if "planes(features)" in b.inputs]
    assert len(below) == 1 and "seed(features)" not in below[0].inputs
    with on_the_cpu():
        expected = ox.decompose(nets.load(two_levels()), x, **asked)
    assert list(found.graph) == list(expected.graph) and len(found.level(2)) > 1
    for name in expected.graph:
        a, b = found[name], expected[name]
        for field in ("contribution", "decision", "residual", "coverage", "map", "pixels"):
            if getattr(b, field) is None:
                assert getattr(a, field) is None, field
            else:
                np.testing.assert_allclose(
                    getattr(a, field), getattr(b, field), rtol=1e-5, atol=1e-6, err_msg=field
                )


def two_levels() -> Any:
    body = """
        a = Conv(x, w1) r = Relu(a) features = Conv(r, w2) f = Relu(features)
        g = GlobalAveragePool(f) v = Flatten(g) z = MatMul(v, w3)
    """
    sizes = {"w1": (6, 3, 3, 3), "w2": (5, 6, 3, 3), "w3": (5, 5)}
    return nets.build("(float[N, 3, 8, 8] x) => (float[N, 5] z)", body, **sizes)


@pytest.mark.usefixtures("pretended")
def test_pixels_of_integer_inputs_are_computed_on_the_host() -> None:
    """Gradient x input of bytes is no product that ONNX knows."""
    body = """
        f = Cast<to = 1>(x) a = Conv(f, w1) r = Relu(a) g = GlobalAveragePool(r)
        v = Flatten(g) z = MatMul(v, w2)
    """
    proto = nets.build("(uint8[N, 3, 8, 8] x) => (float[N, 4] z)", body, w1=(6, 3, 3, 3), w2=(6, 4))
    x = np.random.default_rng(0).integers(0, 255, (1, 3, 8, 8), np.uint8)
    found = ox.decompose(nets.load(proto), x, layers=["a"])
    with on_the_cpu():
        expected = ox.decompose(nets.load(proto), x, layers=["a"])
    assert found.leaves and [n.id for n in found.leaves] == [n.id for n in expected.leaves]
    for a, b in zip(found.leaves, expected.leaves, strict=True):
        np.testing.assert_allclose(a.pixels, b.pixels, rtol=1e-4)


@pytest.mark.parametrize("axis", [1, 3])
def test_planes_of_signals_on_a_device(axis: int, pretended: list[PretendCuda]) -> None:
    executor = Executor("cpu")
    signals = nets.images(4, (5, 6, 7))
    rows, channels = np.array([3, 0, 3]), np.array([1, 4, 0])
    expected = np.stack([signals[r].take(k, axis - 1) for r, k in zip(rows, channels, strict=True)])
    there = ort.OrtValue.ortvalue_from_numpy(signals)
    for _ in range(2):
        np.testing.assert_array_equal(executor.planes(there, rows, channels, axis), expected)
    np.testing.assert_array_equal(executor.planes(signals, rows, channels, axis), expected)
    assert len(pretended) == 1


@pytest.mark.usefixtures("pretended")
@pytest.mark.parametrize("count", [1, 2, 5, 8, 9])
def test_the_number_of_seeds_is_rounded_up(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    program, x = nets.load(nets.conv_net()).program(("z",), ("x",)), nets.images(1)
    linearized, seeds = program.forward({"x": x}), nets.images(count, (4,))
    with nets.counted_runs(monkeypatch) as rows:
        found = linearized.backward({"z": seeds})["x"]
    assert rows == [{1: 1, 2: 2, 5: 8, 8: 8, 9: 16}[count]]
    expected = np.concatenate([linearized.backward({"z": s[None]})["x"] for s in seeds])
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_session_on_a_device_is_made_once_for_each_shape() -> None:
    """Where batches of two sizes alternate, CUDA would plan its convolutions anew in every run."""
    file = nets.conv_net().SerializeToString()
    made: list[PretendCuda] = []

    def make() -> PretendCuda:
        made.append(PretendCuda(ort.InferenceSession(file, providers=[CPU])))
        return made[-1]

    session = Session(make(), again=make)
    expected = Executor("cpu").session(file)
    for count in (1, 3, 1, 3, 2, 1):
        x = nets.images(count)
        np.testing.assert_allclose(
            session.run({"x": x})["y"], expected.run({"x": x})["y"], rtol=1e-6
        )
    assert [len(s.bindings) for s in made] == [3, 2, 1]
    for count in range(4, 4 + SHAPES):
        session.run({"x": nets.images(count)})
    assert len(made) == 3 + SHAPES
    session.run({"x": nets.images(1)})
    assert len(made) == 4 + SHAPES, "the one not used for longest was let go"


def test_a_session_of_shapes_that_do_not_come_back_is_let_go() -> None:
    file = nets.conv_net().SerializeToString()
    alive: list[weakref.ref[PretendCuda]] = []

    def make() -> PretendCuda:
        made = PretendCuda(ort.InferenceSession(file, providers=[CPU]))
        alive.append(weakref.ref(made))
        return made

    session = Session(make(), again=make)
    for count in range(1, 3 + SHAPES):
        session.run({"x": nets.images(count)})
    gc.collect()
    assert [ref() is not None for ref in alive] == [False, False, *[True] * SHAPES]


@pytest.mark.usefixtures("pretended")
def test_gradients_of_many_versions_run_together_on_a_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, x = nets.load(nets.conv_net()), nets.images(2)
    with nets.counted_runs(monkeypatch) as rows:
        found = ox.smooth_grad(model, x, samples=19).values
    assert rows == [2, 16, 16, 6], "the class of each image, then 8 + 8 + 3 versions of both"
    with on_the_cpu():
        expected = ox.smooth_grad(nets.load(nets.conv_net()), x, samples=19).values
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_memory_of_a_device_where_nobody_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_CUDA_RUNTIME", "libnone.so")
    assert memory.of_device() == inf


def test_memory_of_a_device_as_its_runtime_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    class Runtime:
        def __init__(self, name: str) -> None:
            assert "cudart" in name

        def cudaMemGetInfo(self, free: Any, total: Any) -> int:
            free._obj.value, total._obj.value = 3 << 30, 8 << 30
            return failed

    monkeypatch.setattr(memory.ctypes, "CDLL", Runtime)
    failed = 0
    assert memory.of_device() == 3 << 30
    failed = 100
    assert memory.of_device() == inf

"""onnxruntime sessions: the only module that imports it.

An `Executor` is a device with its settings; it makes a `Session` of any model in memory. The providers
reported are those a session really got: onnxruntime falls back to the CPU without a word.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, cast

import numpy as np

from onnxplain import memory
from onnxplain.errors import ConfigError, ModelError
from onnxplain.graph.export import Part
from onnxplain.session_cache import GRAPH, WEIGHTS, SessionCache, key_of

Device = Literal["auto", "cpu", "cuda"]
Array = np.ndarray[Any, Any]
Value = Any
"""A NumPy array, or an onnxruntime OrtValue that stays on the device."""

# The first moves the amounts of a Pad into the pooling behind it, which then refuses those above its
# kernel; the second writes int8 nodes behind a Reshape at opset 21, zero points of another type, and fails.
_DISABLED = ["Pad_Fusion", "QDQPropagationTransformer"]
_FAILED_NODE = re.compile(r"while running (\w+) node\. Name:'(.*?)' Status Message: (.*)")
_NOISE = re.compile(
    r"^\[ONNXRuntimeError\] : \d+ : \w+ : |/onnxruntime_src/\S+ |\S+\.(?:cc|h):\d+ "
)
_KEPT = {
    "session.optimized_model_external_initializers_file_name": WEIGHTS,
    "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
}
_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"
_ON_CUDA = {
    # Found by rules instead of by trying: the same kernels, and so the same numbers, in every run, and a
    # first run in half the time. Of three networks one then ran 8 % faster, two 13 % slower.
    "cudnn_conv_algo_search": "HEURISTIC",
    "arena_extend_strategy": "kSameAsRequested",  # not the next power of two: there are several sessions
}
SHAPES = 8
"""Shapes of its inputs for which a session on CUDA keeps the plans of its convolutions."""


class Executor:
    """A device to run models on.

    `device`: "auto" takes CUDA where onnxruntime has it and it works, "cuda" insists, "cpu" never asks.
    `threads`: of one run; None leaves the choice to onnxruntime (all cores). `tf32` lets CUDA round the
    factors of products to TensorFloat-32, 10 bits: faster, and off unless asked for. `cache`: a folder that
    keeps optimised graphs for the next process; None: the environment's ONNXPLAIN_CACHE, or none. Only
    graphs for the CPU are kept.
    """

    def __init__(
        self,
        device: Device = "auto",
        threads: int | None = None,
        tf32: bool = False,
        cache: str | Path | None = None,
    ) -> None:
        """Check the settings.

        Raises ConfigError for an unknown device, without CUDA when insisted on, for an unusable cache.
        """
        if device not in ("auto", "cpu", "cuda"):
            raise ConfigError(f"device {device!r} is unknown: choose auto, cpu or cuda")
        if threads is not None and (type(threads) is not int or threads < 1):
            raise ConfigError(f"threads must be a whole number from 1 on, got {threads!r}")
        self.device: Device = device
        self.threads, self.tf32 = threads, tf32
        cache = cache or os.environ.get("ONNXPLAIN_CACHE")
        self.cache = SessionCache(cache) if cache else None
        self._wanted = _available(device, tf32)
        self._device_memory = inf if self.on_cpu else memory.of_device()
        self._picking: dict[tuple[int, ...], Session] = {}

    @property
    def on_cpu(self) -> bool:
        """Whether sessions run on the CPU alone."""
        return self._wanted == [_CPU]

    @property
    def available(self) -> float:
        """Bytes that are left where sessions compute; of a device, those that were when this was made."""
        return memory.available() if self.on_cpu else self._device_memory

    def planes(self, signals: Value, rows: Array, channels: Array, axis: int) -> Array:
        """Return signals[row, channel] for each pair, [n, ...]; `axis` holds the channels.

        Of signals on a device only these leave it.
        """
        if isinstance(signals, np.ndarray):
            found: Array = np.moveaxis(signals, axis, 1)[rows, channels]
            return found
        rank = len(signals.shape())
        order = (0, axis, *(i for i in range(1, rank) if i != axis))
        if order not in self._picking:
            self._picking[order] = self.session(_picking_model(order))
        index = np.stack([rows, channels], 1).astype(np.int64)
        found = self._picking[order].run({"signals": signals, "index": index})["planes"]
        return found

    def session(self, model: Part | bytes | str, optimize: bool = True) -> Session:
        """Make a session of a part of a graph, a serialised model, or a file.

        Raises ModelError if onnxruntime refuses it.

        `optimize` lets onnxruntime fuse operators, which takes time in proportion to nodes x outputs.
        """
        part = model if isinstance(model, Part) else Part(model)
        make = partial(self._make, part, optimize)
        return Session(make(), part.fed, None if self.on_cpu or not part.plans else make)

    def _make(self, part: Part, optimize: bool) -> Any:
        """Return an onnxruntime InferenceSession of a part; raises ModelError where it refuses."""
        import onnxruntime as ort

        if self.cache is not None and optimize and part.beside and self.on_cpu:
            return self._kept(part, self.cache)
        options = self._options(part)
        if not optimize:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        return self._created(part.model, options, part.beside)

    def _kept(self, part: Part, cache: SessionCache) -> Any:
        """Return the session of a part as the cache has it; make and add it where it has not."""
        import onnxruntime as ort

        key = key_of(cast(bytes, part.model), part.pack, ort.__version__, _DISABLED, _KEPT)
        found = cache.find(key)
        if found is not None:
            options = self._options(part)
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            try:
                return self._created(str(found), options, {})
            except ModelError as error:
                cache.drop(key, str(error))
        weights, options = dict(part.beside), self._options(part)
        try:
            with cache.adding(key, sum(v.nbytes for v in weights.values())) as folder:
                if folder is not None:
                    options.optimized_model_filepath = str(folder / GRAPH)
                    for name, value in _KEPT.items():
                        options.add_session_config_entry(name, value)
                return self._created(part.model, options, weights)
        except ModelError as error:  # of the graph, or of a full disk
            session = self._created(part.model, self._options(part), weights)
            cache.not_kept(error)
            return session

    def _options(self, part: Part) -> Any:
        """Return what onnxruntime is told for every session."""
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 4  # its warnings would land on the user's terminal
        options.enable_mem_pattern = False  # batch sizes vary between calls
        # By default a MatMul with int8 weights rounds its other factor, a gradient perhaps, to 8 bits too.
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
        # An explanation runs several sessions in turn, each with threads of its own. Those of the last one
        # would spin on the cores that the next one needs: ResNet-50's gradient took twice as long.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if self.threads is not None:
            options.intra_op_num_threads = self.threads
        if not part.pack:
            options.add_session_config_entry("session.disable_prepacking", "1")
        return options

    def _created(self, model: bytes | str, options: Any, beside: Mapping[str, Array]) -> Any:
        import onnxruntime as ort

        if beside:
            values = [ort.OrtValue.ortvalue_from_numpy(v) for v in beside.values()]
            options.add_external_initializers(list(beside), values)
        try:
            return ort.InferenceSession(
                model, options, providers=self._wanted, disabled_optimizers=_DISABLED
            )
        except Exception as error:  # onnxruntime raises a family of pybind11 types
            raise ModelError(f"onnxruntime cannot run this model: {_first_line(error)}") from error


class Session:
    """One model, ready to run.

    On CUDA onnxruntime plans a convolution anew whenever its shapes differ from those of the run before: a
    network that takes 3 ms takes 2 s if batches of two sizes alternate. So it is made once per shape there.
    """

    def __init__(
        self,
        session: Any,
        fed: Mapping[str, Array] = MappingProxyType({}),
        again: Callable[[], Any] | None = None,
    ) -> None:
        """Wrap an onnxruntime InferenceSession; `fed` are the inputs that are the same in every run.

        `again` makes another one, for other shapes; None serves all shapes with the one.
        """
        self._session, self._again = session, again
        self._by_shapes: dict[tuple[Any, ...], Any] = {}
        self._lock = threading.Lock()
        inputs = {i.name: (i.type, i.shape) for i in session.get_inputs()}
        self.inputs = {k: v for k, v in inputs.items() if k not in fed}
        self.outputs = [o.name for o in session.get_outputs()]
        self.providers: tuple[str, ...] = tuple(session.get_providers())
        self._fed: dict[str, Value] = dict(fed)
        if self.on_device:
            self._fed = {k: _on_device(v) for k, v in fed.items()}

    def dtype(self, name: str) -> np.dtype[Any]:
        """Return the float type of an input; float32 for one that the model does not read."""
        kind = self.inputs.get(name, ("tensor(float)", ()))[0]
        return np.dtype(
            {"tensor(double)": np.float64, "tensor(float16)": np.float16}.get(kind, np.float32)
        )

    @property
    def on_device(self) -> bool:
        """Whether results can stay in a device's memory."""
        return self.providers[0] != _CPU

    def run(self, feeds: Mapping[str, Value], keep: Sequence[str] = ()) -> dict[str, Value]:
        """Return all outputs by name; those in `keep` stay on the device as OrtValues (on CUDA).

        Raises ModelError when onnxruntime fails; feeds are checked before they come here.
        """
        used = self._fed | {k: v for k, v in feeds.items() if k in self.inputs}
        session = self._of_shapes(used)
        try:
            if self.on_device:
                return self._run_on_device(session, used, set(keep))
            results = session.run(self.outputs, used)
        except Exception as error:  # onnxruntime raises a family of pybind11 types
            raise ModelError(f"onnxruntime failed on this model: {_first_line(error)}") from error
        return dict(zip(self.outputs, results, strict=True))

    def _of_shapes(self, feeds: Mapping[str, Value]) -> Any:
        """Return the session for inputs of these shapes, made where there is none yet."""
        if self._again is None:
            return self._session
        shapes = tuple(_shape(feeds[name]) for name in self.inputs if name in feeds)
        with self._lock:
            known = self._by_shapes
            found = known.pop(shapes, None)
            if found is None:
                found = self._again() if self._session is None else self._session
                self._session = None  # from now on it is kept as long as the others
                if len(known) >= SHAPES:
                    del known[next(iter(known))]  # the one not used for longest
            known[shapes] = found
            return found

    def _run_on_device(
        self, session: Any, feeds: Mapping[str, Value], keep: set[str]
    ) -> dict[str, Value]:
        binding = session.io_binding()
        for name, value in feeds.items():
            if isinstance(value, np.ndarray):
                binding.bind_cpu_input(name, np.ascontiguousarray(value))
            else:
                binding.bind_ortvalue_input(name, value)
        for name in self.outputs:
            binding.bind_output(name, "cuda" if name in keep else "cpu")
        session.run_with_iobinding(binding)
        values = dict(zip(self.outputs, binding.get_outputs(), strict=True))
        return {k: v if k in keep else v.numpy() for k, v in values.items()}


def run_plainly(model: bytes | str, feeds: Mapping[str, Array]) -> dict[str, Any]:
    """Run a serialised model or a file once, as any program would: with all defaults, on the CPU.

    Raises ModelError if onnxruntime refuses it or fails.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4  # says less, changes nothing
    try:
        session = ort.InferenceSession(model, options, providers=[_CPU])
        names = [o.name for o in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(feeds)), strict=True))
    except Exception as error:  # onnxruntime raises a family of pybind11 types
        raise ModelError(f"onnxruntime cannot run this model: {_first_line(error)}") from error


def runtime_version() -> str:
    """Return the version of onnxruntime."""
    import onnxruntime as ort

    return str(ort.__version__)


def _available(device: Device, tf32: bool) -> list[str | tuple[str, dict[str, str]]]:
    """Return the providers to ask for, having tried CUDA on a tiny model where it is wanted."""
    if device == "cpu":
        return [_CPU]
    works, why = _cuda_works()
    if works:
        return [(_CUDA, {"use_tf32": str(int(tf32)), **_ON_CUDA}), _CPU]
    if device == "cuda":
        raise ConfigError(f'device "cuda" is not usable: {why}; use device="auto" or "cpu"')
    return [_CPU]


def _cuda_works() -> tuple[bool, str]:
    import onnxruntime as ort

    if _CUDA not in ort.get_available_providers():
        return False, "this onnxruntime was built without CUDA (install onnxruntime-gpu)"
    if not _has_nvidia_device():
        return False, "no NVIDIA device was found"
    ort.set_default_logger_severity(4)  # a failed provider is reported below, not on the terminal
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()  # finds CUDA and cuDNN installed by pip
    session = ort.InferenceSession(_tiny_model(), providers=[_CUDA, _CPU])
    if session.get_providers()[0] != _CUDA:
        return False, "onnxruntime fell back to the CPU (CUDA 13 and cuDNN 9 are needed)"
    return True, ""


def _has_nvidia_device() -> bool:
    """Look for a device before loading CUDA's libraries, which costs seconds where there is none."""
    nodes = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg")
    return os.name == "nt" or any(Path(node).exists() for node in nodes)


def _tiny_model() -> bytes:
    from onnx import parser

    text = '<ir_version: 8, opset_import: ["": 18]> t (float[1] x) => (float[1] y) { y = Abs(x) }'
    return parser.parse_model(text).SerializeToString()  # type: ignore[no-any-return]


def _picking_model(order: Sequence[int]) -> bytes:
    from onnx import TensorProto, helper

    signals = helper.make_tensor_value_info("signals", TensorProto.FLOAT, [None] * len(order))
    index = helper.make_tensor_value_info("index", TensorProto.INT64, [None, 2])
    planes = helper.make_tensor_value_info("planes", TensorProto.FLOAT, [None] * (len(order) - 1))
    nodes = [
        helper.make_node("Transpose", ["signals"], ["ordered"], perm=order),
        helper.make_node("GatherND", ["ordered", "index"], ["planes"]),
    ]
    graph = helper.make_graph(nodes, "picking", [signals, index], [planes])
    opsets = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return model.SerializeToString()  # type: ignore[no-any-return]


def _shape(value: Value) -> tuple[int, ...]:
    return value.shape if isinstance(value, np.ndarray) else tuple(value.shape())


def _on_device(array: Array) -> Value:
    import onnxruntime as ort

    return ort.OrtValue.ortvalue_from_numpy(array, "cuda")


def _first_line(error: Exception) -> str:
    """Return what onnxruntime says without its codes and source lines."""
    text = str(error).strip().splitlines()
    if not text:
        return type(error).__name__
    failed = _FAILED_NODE.search(text[0])
    said = f"{failed[1]} (node {failed[2]!r}): {failed[3]}" if failed else text[0]
    return _NOISE.sub("", said).strip(" :.")[:300]

"""Model: a loaded ONNX file, ready to be asked. `load` makes one."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxplain import batching
from onnxplain.ablation import Ablation
from onnxplain.backward import VJP, RuleTable
from onnxplain.errors import ConfigError, LayerError, TargetError
from onnxplain.executor import Array, Device, Executor, Session, runtime_version
from onnxplain.feeds import Feeds, check_feeds, choose_rows, input_spec
from onnxplain.graph.canonical import import_graph
from onnxplain.graph.export import export
from onnxplain.graph.graph import Graph, build
from onnxplain.graph.half import widen
from onnxplain.graph.layers import Layer
from onnxplain.graph.load import ModelFile, Source, read_model, understanding
from onnxplain.graph.paths import needed
from onnxplain.graph.shuffled import shuffled
from onnxplain.preprocess import (
    InputSpec,
    Preprocess,
    as_preprocess,
    find,
    find_labels,
    guess,
    read_labels,
)
from onnxplain.preprocess import read as read_images
from onnxplain.program import Program
from onnxplain.results import Prediction
from onnxplain.version import __version__

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

SIZES = 8
"""Image sizes whose graphs and sessions are kept, for files that leave the size open."""


def load(
    source: Source,
    device: Device = "auto",
    preprocess: Preprocess | str | Mapping[str, Any] | None = None,
    labels: Sequence[str] | str | Path | None = None,
    threads: int | None = None,
    tf32: bool = False,
    cache: str | Path | None = None,
) -> Model:
    """Load an ONNX model for explaining.

    source: path (external data must lie in its folder), bytes, or ModelProto.
    device: "auto" (CUDA where it works), "cpu" or "cuda"; threads: of one run, None for all cores; tf32: let
        CUDA compute products in TensorFloat-32 (docs/gpu.md has the error and the gain).
    preprocess: how to feed images: a `Preprocess`, a preset's name (imagenet, inception, caffe, unit, raw), a
        mapping of its fields, or a TOML/JSON file's path; None looks beside the model
        (`model.onnxplain.toml`), then into its metadata, then guesses from the input and says so.
    labels: class names in index order, or a text file of them; None looks in the same places.
    cache: a folder that keeps the graphs that onnxruntime optimised, for the next process to start faster;
        None: the environment's ONNXPLAIN_CACHE, or none.

    Raises ModelError (unusable file; UnsupportedOpError where an op is the reason), ConfigError (settings).
    """
    file = read_model(source)
    given = None if preprocess is None else as_preprocess(preprocess)
    if isinstance(labels, str | Path):
        labels = read_labels(labels)
    with understanding(file.name):
        return Model(file, Executor(device, threads, tf32, cache), given, labels)


def _arrived(
    file: ModelFile,
    asked: tuple[Device, int | None, bool, Path | None],
    preprocess: Preprocess,
    labels: tuple[str, ...] | None,
) -> Model:
    """Make a model of what `Model.__reduce__` sent."""
    return Model(file, Executor(*asked), preprocess, labels)


@cache
def _versions() -> Mapping[str, str]:
    import onnx

    return {
        "onnxplain": __version__,
        "onnx": onnx.__version__,
        "onnxruntime": runtime_version(),
        "numpy": np.__version__,
        "python": sys.version.split()[0],
    }


class Model:
    """A loaded model: its layers, its predictions, and the programs that explain it.

    Thread-safe: programs are made once and onnxruntime sessions may run concurrently.
    """

    def __init__(
        self,
        file: ModelFile,
        executor: Executor,
        preprocess: Preprocess | None,
        labels: Sequence[str] | None,
        half: bool = False,
    ) -> None:
        """Canonicalise the file; use `load`. `half`: compute float16 as it is stored, also on the CPU."""
        self.file, self.name, self.path, self.sha256 = file, file.name, file.path, file.sha256
        self.executor = executor
        self._imported = import_graph(file.proto, file.weights, file.sha256)
        self._widened = executor.on_cpu and not half and widen(self._imported)
        self._given = preprocess or find(file.path, file.metadata)
        size = self._given.size if self._given is not None else None
        self.graph: Graph = build(self._imported.copy(), size)
        self._sizes: dict[tuple[int, ...], Model] = {}
        self._init_state()
        found = labels if labels is not None else find_labels(file.path, file.metadata)
        self.labels = None if found is None else tuple(found)
        self._check_labels()

    def _init_state(self) -> None:
        self._lock = threading.RLock()
        self._programs: dict[tuple[tuple[str, ...], tuple[str, ...], RuleTable], Program] = {}
        self._sessions: dict[tuple[str, ...], Session] = {}
        self._ablations: dict[tuple[str, str], Ablation] = {}
        self._shuffled: dict[tuple[float, int], Model] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel between processes as the file and the settings; programs and sessions are made anew."""
        own = self.executor
        cache = own.cache.folder if own.cache else None
        asked = (own.device, own.threads, own.tf32, cache)
        return _arrived, (self.file, asked, self.preprocess, self.labels)

    # --- what the file holds ----------------------------------------------------------------------
    @property
    def layers(self) -> tuple[Layer, ...]:
        """The activations between input and logit, in order; `cut` marks those every path passes."""
        return self.graph.layers

    @property
    def default_layer(self) -> Layer | None:
        """The layer that class activation maps use; None where the model has no feature maps."""
        return self.graph.default_layer

    @property
    def why_default_layer(self) -> str:
        """The reason for `default_layer`, or for its absence."""
        return self.graph.why_default_layer

    @property
    def classes(self) -> int | None:
        """Number of classes, where the logit is [N, C]."""
        shape = self._tensors[self.graph.logit.tensor].shape
        known = shape is not None and len(shape) == 2 and isinstance(shape[1], int)
        return int(shape[1]) if known else None

    @cached_property
    def spec(self) -> InputSpec:
        """The input to explain, as pre-processing needs it; an open size is -1."""
        return input_spec(self.graph.source, keep_open=True)

    @cached_property
    def preprocess(self) -> Preprocess:
        """How images are fed; `.source` says where that came from."""
        return self._given if self._given is not None else guess(self.spec)

    @cached_property
    def _tensors(self) -> dict[str, gs.Tensor]:
        found: dict[str, gs.Tensor] = self.graph.nodes.tensors()
        return found

    @property
    def providers(self) -> tuple[str, ...]:
        """The onnxruntime providers really used."""
        with self._lock:
            made = next(iter(self._sessions.values()), None)
        return (made or self._session((self.graph.logit.predicted,))).providers

    def dtype_of(self, tensor: str) -> np.dtype[Any]:
        """Return the element type of a tensor of the graph."""
        dtype: np.dtype[Any] = np.dtype(self._tensors[tensor].dtype)
        return dtype

    def label(self, index: int) -> str:
        """Return the name of a class, or its number where there are no labels."""
        known = self.labels is not None and 0 <= index < len(self.labels)
        return self.labels[index] if known and self.labels is not None else str(index)

    def layer(self, layer: Layer | str | None) -> Layer:
        """Return a layer by name, or the default layer for None; raises LayerError."""
        if layer is None:
            if self.default_layer is None:
                raise LayerError(f"{self.name}: {self.why_default_layer}")
            return self.default_layer
        name = layer.name if isinstance(layer, Layer) else str(layer)
        found = self.graph.layer(name)
        if found is None:
            raise LayerError(
                f"{self.name} has no layer {name!r}{self._similar(name)}; `onnxplain inspect` lists them"
            )
        return found

    # --- running ----------------------------------------------------------------------------------
    def read(self, images: Any) -> Array:
        """Read images (paths, PIL images, uint8 arrays [H, W, 3]) into one input batch [N, ...].

        Uses `preprocess`; .npy, .npz and .pb files are taken as model input. Raises InputError, ConfigError.
        """
        spec = self.spec
        if any(s < 0 for s in spec.shape) and self.preprocess.size is None:
            spec = input_spec(self.graph.source, keep_open=False)  # the size the file leaves open
        return read_images(images, spec, self.preprocess)

    def predict(self, x: Array | Mapping[str, Array]) -> Prediction:
        """Return the logits of a batch [N, ...].

        Raises InputError for what does not fit the model, TargetError where the logit is not [N, C].
        """
        if self.classes is None:
            shape = self._tensors[self.graph.logit.tensor].shape
            raise TargetError(
                f"{self.name} does not classify: its output {self.graph.logit.output!r} has shape {shape}; "
                "explain an element of it with onnxplain.Target"
            )
        model, feeds = self.fit(x)
        logit = model.graph.logit
        name = logit.predicted
        parts = [model.values(rows, (name,))[name] for rows in model.batches(feeds)]
        logits = np.concatenate(parts).astype(np.float32)
        return Prediction(
            logits=logits,
            activation=logit.activation,
            labels=self.labels,
            meta=model.meta("predict"),
        )

    def fit(self, x: Array | Mapping[str, Array]) -> tuple[Model, Feeds]:
        """Check an input against the model; return the model at this image size, and its feeds.

        A model of several inputs takes a mapping by name. Raises InputError.
        """
        given = x if isinstance(x, Mapping) else {self.graph.source.name: x}
        feeds = check_feeds(given, self.graph.inputs, self.name)
        return self._at_size(feeds), feeds

    def batches(self, feeds: Feeds, most: int | None = None) -> Iterator[Feeds]:
        """Cut feeds into batches that fit memory, or single images where the file pins their number.

        most: images in a batch; None takes what is fastest, `together`.
        """
        count = len(feeds[self.graph.source.name])
        most = self.together if most is None else most
        size = 1 if self.graph.pinned is not None else self.at_once(min(most, count))
        for start in range(0, count, size):
            yield self.rows(feeds, slice(start, start + size))

    @property
    def together(self) -> int:
        """How many images are run at once where memory allows."""
        return batching.images(self.graph, self.executor)

    def at_once(self, most: int) -> int:
        """Return how many images, or seeds of one image, fit half of the memory left: from 1 to `most`."""
        return batching.fitting(most, self.graph, self.executor)

    @property
    def seeds_at_once(self) -> int:
        """How many seeds of one image to pull back at once."""
        return self.at_once(batching.seeds(self.graph, self.executor))

    def rows(self, feeds: Feeds, chosen: slice | Sequence[int]) -> Feeds:
        """Return the feeds of some of the images; settings that all images share stay as they are."""
        return choose_rows(feeds, chosen, self.graph.inputs)

    def versions(self, feeds: Feeds, of: Sequence[int], altered: Feeds) -> Feeds:
        """Return the feeds of altered versions of an input; what else those images have is repeated."""
        others = {k: v for k, v in feeds.items() if k not in altered}
        return {**self.rows(others, of), **altered}

    def values(self, feeds: Feeds, names: Sequence[str]) -> Feeds:
        """Run the model and return tensors by name (outputs, layers): one batch, unchecked."""
        return self._session(tuple(names)).run(feeds)

    def program(
        self, outputs: Sequence[str], wrt: Sequence[str], rules: RuleTable = VJP
    ) -> Program:
        """Return the (cached) program of `outputs` with respect to `wrt` under a rule table."""
        key = (tuple(outputs), tuple(wrt), rules)
        with self._lock:
            if key not in self._programs:
                self._programs[key] = Program(self.graph.nodes, *key, self.executor)
            return self._programs[key]

    def ablation(self, layer: Layer, output: str | None = None) -> Ablation:
        """Return the (cached) rest of the network from a layer on, to run without some channels.

        output: a tensor, None for the logit. Raises LayerError: the layer is no cut, or has no channels.
        """
        key = (layer.name, output or self.graph.logit.tensor)
        with self._lock:
            if key not in self._ablations:
                self._ablations[key] = Ablation(self.graph, layer, key[1], self.executor)
            return self._ablations[key]

    def shuffled(self, share: float = 1.0, seed: int = 0) -> Model:
        """Return a (cached) copy whose weights are permuted within each tensor: it knows nothing any more.

        share: of its layers with weights, counted from the output. Raises ConfigError outside 0..1.
        """
        if not 0 <= share <= 1:
            raise ConfigError(f"the share of layers to shuffle must be within 0..1, got {share!r}")
        with self._lock:
            key = (float(share), seed)
            if key not in self._shuffled:
                file = shuffled(self.file, *key)
                twin = Model(file, self.executor, self.preprocess, self.labels)
                self._shuffled[key] = twin
            return self._shuffled[key]

    def as_stored(self) -> Model:
        """Return the model in the types of its file: itself, but for float16 on the CPU."""
        if not self._widened:
            return self
        return Model(self.file, self.executor, self.preprocess, self.labels, half=True)

    def meta(self, method: str, **more: Any) -> dict[str, Any]:
        """Return what a record says about where it came from (JSON-able)."""
        return {
            "method": method,
            "model": self.path.name if self.path else self.name,
            "sha256": self.sha256,
            "logit": str(self.graph.logit),
            "preprocess": self.preprocess.source if self.spec.is_picture else "none",
            "versions": dict(_versions()),
            **more,
        }

    # --- inside -----------------------------------------------------------------------------------
    def _session(self, names: tuple[str, ...]) -> Session:
        with self._lock:
            if names not in self._sessions:
                for name in names:
                    if name not in self._tensors:
                        raise LayerError(f"{self.name} has no tensor {name!r}")
                nodes = needed(self.graph.nodes.nodes, names)
                outputs = [self._tensors[name] for name in names]
                part = export(self.graph.nodes, nodes, self.graph.nodes.inputs, outputs)
                self._sessions[names] = self.executor.session(part)
            return self._sessions[names]

    def _at_size(self, feeds: Feeds) -> Model:
        """Return this model canonicalised for the image size in `feeds`, where the file leaves it open."""
        source = self.graph.source
        size = feeds[source.name].shape[1:]
        if not source.open_size or size == source.shape[1:]:
            return self
        with self._lock:
            if size not in self._sizes:
                h, w = (size[source.axes.index(a) - 1] for a in "HW") if source.axes else (0, 0)
                twin = object.__new__(Model)
                twin.__dict__.update(self.__dict__)
                twin.__dict__.pop("_tensors", None)
                twin._init_state()
                with understanding(self.name):
                    twin.graph = build(self._imported.copy(), (h, w))
                while len(self._sizes) >= SIZES:
                    del self._sizes[next(iter(self._sizes))]  # the oldest
                self._sizes[size] = twin
            return self._sizes[size]

    def _check_labels(self) -> None:
        if (
            self.labels is not None
            and self.classes is not None
            and len(self.labels) != self.classes
        ):
            raise ConfigError(
                f"{len(self.labels)} labels were given, but {self.name} has {self.classes} classes"
            )

    def _similar(self, name: str) -> str:
        import difflib

        close = difflib.get_close_matches(name, [layer.name for layer in self.layers], n=1)
        return f" (did you mean {close[0]!r}?)" if close else ""

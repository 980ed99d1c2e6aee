"""Programs: a linearised model, ready to run forward once and backward many times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from onnxplain.backward import VJP, RuleTable
from onnxplain.backward.split import REFERENCE, Formula, Pair, per_image
from onnxplain.backward.variants.blocked import BLOCKED
from onnxplain.errors import InputError
from onnxplain.executor import Array as Array
from onnxplain.executor import Executor, Session, Value
from onnxplain.graph.compute import NUMPY
from onnxplain.target import single_ones

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

MANY_NODES = 1500
"""Above it two graphs, of forward and backward, are made sooner than one: the time grows with the square."""

MANY_RESIDUALS = 2000
"""Above it what grows with their square when onnxruntime makes a session costs more than it gains."""

COPIES = 4
"""Backward passes in one graph for several seeds of one image: they share what brings residuals into blocks.
With 8 onnxruntime takes up to twice as long to make it, and a pass at most 4 % less."""

MANY_STEPS = 2000
"""Nodes of those passes above which they take too long to make: with 1,740 DenseNet-121 takes 0.2 s more, and
12 % less for each seed."""

FEW_ELEMENTS = 1_000_000
"""Masks of fewer elements stay in the processor's caches, where seeds of one image gain more by running
together than by staying in blocks: 10 to 20 % on networks for pictures of 32 x 32."""


class Program:
    """Forward and backward of `outputs` with respect to `wrt` under one rule table.

    Made by `Model.program`, which caches them. Sessions are made when first run, and each part is compiled
    once. The image count of the forward (n) and the seed count (B) agree, or n is 1.
    """

    def __init__(
        self,
        graph: gs.Graph,
        outputs: Sequence[str],
        wrt: Sequence[str],
        rules: RuleTable,
        executor: Executor,
    ) -> None:
        """Write the backward pass; raises UnsupportedOpError and ModelError as `Pair` does."""
        self.outputs, self.wrt = tuple(outputs), tuple(wrt)
        self._graph, self._table, self._executor = graph, rules, executor
        self._blocked = rules is VJP and executor.on_cpu
        self._short = len(graph.nodes) <= MANY_NODES
        self.per_image = per_image(graph)
        to_input = set(wrt) <= self.per_image
        # The one that is run first, or nearly always. Whatever is the same for both is read off it.
        self._first = self._each if self._short and to_input else self._given
        self.rules, self.notes = rules.name, tuple(self._first.notes)
        self._reduced: dict[tuple[Formula, int | None], Session] = {}
        self._baseline: dict[str, Array] | None = None
        self._references: dict[int, dict[str, Value]] = {}

    @cached_property
    def forward_session(self) -> Session:
        """The session of the forward part; it tells the providers really used."""
        return self._executor.session(self.pair.forward(), optimize=self._has_few_residuals)

    @cached_property
    def _segment_session(self) -> Session:
        return self._executor.session(self.pair.segment(), optimize=self._has_few_residuals)

    @property
    def _has_few_residuals(self) -> bool:
        return len(self._first.residuals) <= MANY_RESIDUALS

    @property
    def _one_run(self) -> bool:
        return self._short and self._has_few_residuals

    @cached_property
    def _backward_session(self) -> Session:
        return self._executor.session(self.pair.backward())

    @cached_property
    def _copies_session(self) -> Session:
        return self._executor.session(self.pair.backward(COPIES))

    def reduced_session(self, formula: Formula, channel_axis: int | None) -> Session:
        """Return the session of the backward part followed by a formula; see `Pair.reduced`."""
        key = (formula, channel_axis)
        if key not in self._reduced:
            self._reduced[key] = self._executor.session(self.pair.reduced(*key))
        return self._reduced[key]

    @property
    def on_device(self) -> bool:
        """Whether residuals and signals stay in a device's memory."""
        return not self._executor.on_cpu

    @property
    def providers(self) -> tuple[str, ...]:
        """The onnxruntime providers that runs really use."""
        sessions = ("_picked_session", "_fused_session", "_backward_session", "forward_session")
        made = [vars(self)[name] for name in sessions if name in vars(self)]
        found: tuple[str, ...] = (made or [self.forward_session])[0].providers
        return found

    @cached_property
    def _tail_session(self) -> Session:
        return self._executor.session(self.pair.tail())

    @cached_property
    def pair(self) -> Pair:
        """The pair that is run in two parts.

        Down to an input, where maps are largest, the one for onnxruntime's blocked layout if enough enters
        it: seeds of one image then take a pass each. Else residuals of one image broadcast.
        """
        each = self._first
        if not (each.each and self._blocked):
            return self._given
        short, large = COPIES * each.steps <= MANY_STEPS, each.entering >= FEW_ELEMENTS
        return each if short and large else self._given

    @cached_property
    def _given(self) -> Pair:
        """The pair whose residuals of one image serve many seeds."""
        return Pair(self._graph, self.outputs, self.wrt, self._table)

    @cached_property
    def _each(self) -> Pair:
        """The pair for one seed per image; on the CPU written for its blocked layout."""
        table = BLOCKED if self._blocked else self._table
        return Pair(self._graph, self.outputs, self.wrt, table, one_each=True)

    def pull(
        self, values: Mapping[str, Value], seeds: Mapping[str, Array], copies: int = 1
    ) -> dict[str, Array]:
        """Run backward from kept `values`: `copies` seeds of each image."""
        session = self._backward_session if copies == 1 else self._copies_session
        named = {
            f"seed({k})": v.astype(session.dtype(f"seed({k})"), copy=False)
            for k, v in seeds.items()
        }
        found = session.run({**values, **named})
        return {name: found[f"gradient({name})"] for name in self.pair.gradients}

    @cached_property
    def _fused_session(self) -> Session:
        return self._executor.session(self._each.fused())

    @cached_property
    def _picked_session(self) -> Session:
        return self._executor.session(self._each.fused(picked=True))

    def forward(self, feeds: Mapping[str, Array]) -> Linearized:
        """Run the model on `feeds` and keep what backward passes need.

        Feeds that hold the values of `wrt`, a cut, run the rest of the network from there alone; else they
        are the model's inputs. Raises LayerError for values of `wrt` that is not a cut.
        """
        references = self._reference(feeds)
        keep = [r for r in self.pair.residuals if r not in (*self.outputs, *self.wrt)]
        inside = set(self.wrt) <= set(feeds) - self.per_image
        session = self._segment_session if inside else self.forward_session
        values = session.run({**feeds, **references}, keep=keep)
        return Linearized(self, dict(feeds), {**feeds, **values})

    def tail(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """Run the rest of the network from given values of `wrt` (and of the inputs it reads beside them).

        Raises LayerError where `wrt` is not a cut.
        """
        return self._tail_session.run(values)

    def count(self, feeds: Mapping[str, Array]) -> int:
        """Return the number of images; inputs that all of them share, settings, do not count."""
        rows = {k: v for k, v in feeds.items() if k in self.per_image or k in self.wrt}
        return _rows(rows) if rows else 1

    @cached_property
    def seed_sizes(self) -> Mapping[str, tuple[int, ...]] | None:
        """Sizes of one image's seed, by output; None where the graph does not tell."""
        return self._first.seed_sizes

    def explain(self, feeds: Mapping[str, Array], seeds: Mapping[str, Array] | None) -> Linearized:
        """Run `forward`, and along with it the backward pass of these seeds, one per image.

        None: the seed of each image's largest element; needs a single output and `seed_sizes`, else raises
        InputError. What `backward` of other seeds needs is not kept: it starts anew. For very long networks
        this is `forward`.
        """
        if not self._one_run:
            return self.forward(feeds)
        found = self.fused(feeds, seeds)
        signals = {name: found.pop(f"gradient({name})") for name in self._first.gradients}
        values = {**feeds, **found}  # an output may be an input of the model itself
        if seeds is None:
            seeds = {name: largest(values[name]) for name in self.outputs}
        return Linearized(self, dict(feeds), values, (seeds, signals))

    def fused(
        self, feeds: Mapping[str, Array], seeds: Mapping[str, Array] | None
    ) -> dict[str, Array]:
        """Run forward and backward in one graph, one seed per image: {"z": ..., "gradient(x)": ...}.

        `seeds` None explains each image's largest element. Raises InputError where that is not known.
        """
        session, asked = self._asked(feeds, seeds)
        return session.run({**feeds, **self._reference(feeds), **asked})

    def _asked(
        self, feeds: Mapping[str, Array], seeds: Mapping[str, Array] | None
    ) -> tuple[Session, dict[str, Array]]:
        """Return the session for these seeds, and what it is fed of them."""
        if self._each.picks:
            (output,) = self.outputs
            numbers = (
                np.full(self.count(feeds), -1) if seeds is None else single_ones(seeds[output])
            )
            if numbers is not None:
                return self._picked_session, {f"element({output})": numbers}
        if seeds is None:
            raise InputError(
                f"give a seed for each of {', '.join(self.outputs)}: none is the largest"
            )
        session = self._fused_session
        dtypes = {name: session.dtype(f"seed({name})") for name in seeds}
        return session, {f"seed({k})": v.astype(dtypes[k], copy=False) for k, v in seeds.items()}

    @property
    def has_reference(self) -> bool:
        """Whether `set_reference` has been called."""
        return self._baseline is not None

    def set_reference(self, values: Mapping[str, Array]) -> None:
        """Fix the reference input: `values` of `wrt` with one row."""
        self._baseline = dict(values)
        self._references = {}

    def reference(self) -> dict[str, Array]:
        """Return what the rules read at the reference, by tensor, where it is the same for all images.

        Raises InputError where it is not, or before `set_reference`.
        """
        alike = self._first.one_reference or (self._first.pinned and not self._first.beside)
        if self._first.references and not alike:
            raise InputError(
                f"the reference pass from {', '.join(self.wrt)!r} depends on the images"
            )
        return {k.removesuffix(REFERENCE): v for k, v in self._reference({}).items()}

    @cached_property
    def _reference_session(self) -> Session:
        return self._executor.session(self._first.reference())

    def _reference(self, feeds: Mapping[str, Array]) -> dict[str, Value]:
        """Return what the rules read at the reference; computed once where it is the same for all images.

        It is not where an axis merges images with heads or windows, or the rest of the network reads a
        second input.
        """
        if not self._first.references:
            return {}
        if self._baseline is None:
            raise InputError(f"rule table {self.rules!r} needs set_reference() first")
        rows = 1 if self._first.one_reference or self._first.pinned else self.count(feeds)
        if rows in self._references:
            return self._references[rows]
        at = {name: np.repeat(value, rows, axis=0) for name, value in self._baseline.items()}
        found = self._reference_session.run({**at, **{k: feeds[k] for k in self._first.beside}})
        named = {name + REFERENCE: value for name, value in found.items()}
        if not self._first.beside:
            self._references[rows] = named
        return named


@dataclass(frozen=True)
class Planted:
    """Seeds that are zero but for one channel each.

    planes: float32, shaped like the seeds with one channel. channels: [n] int64. axis: that of the channels.
    """

    planes: Array
    channels: Array
    axis: int

    def __len__(self) -> int:
        """Return the number of seeds."""
        return len(self.channels)

    def __getitem__(self, rows: slice) -> Planted:
        """Return some of the seeds."""
        return Planted(self.planes[rows], self.channels[rows], self.axis)

    def dense(self, channels: int) -> Array:
        """Return the seeds with all their zeros, for a layer of so many channels."""
        shape = list(self.planes.shape)
        shape[self.axis] = channels
        found = np.zeros(shape, np.float32)
        np.moveaxis(found, self.axis, 1)[range(len(self)), self.channels] = np.moveaxis(
            self.planes, self.axis, 1
        )[:, 0]
        return found


@dataclass(frozen=True)
class Linearized:
    """The result of one forward: outputs, the values at `wrt`, and the backward pass at this input."""

    program: Program
    feeds: dict[str, Array]
    values: dict[str, Value]
    pulled: tuple[Mapping[str, Array], dict[str, Array]] | None = None
    """Seeds whose backward pass ran along, and its signals; `values` then holds no residuals."""

    def __getitem__(self, name: str) -> Array:
        """Return the value of an output or of a `wrt` tensor."""
        value: Array = self.values[name]
        return value

    def backward(self, seeds: Mapping[str, Array]) -> dict[str, Array]:
        """Return the signal at each tensor of `wrt`: one row per seed.

        `seeds[output]` has shape [B, *output.shape[1:]]. Raises InputError if B is not the image count, and
        there are several images.
        """
        if self.pulled is not None:
            known, signals = self.pulled
            if all(np.array_equal(known[name], seeds[name]) for name in known):
                return dict(signals)
            return self.program.forward(self.feeds).backward(seeds)
        images, count = self.program.count(self.feeds), _rows(seeds)
        if count != images:
            if images != 1:
                raise InputError(
                    f"{count} seeds for {images} images: give one seed each, or one image"
                )
            pair = self.program.pair
            if pair.pinned or pair.each:
                return self._in_parts(seeds, COPIES if pair.each else 1)
            if not pair.broadcasts:
                repeated = self.program.per_image | set(self.program.wrt)
                tiled = {
                    k: np.repeat(v, count, axis=0) if k in repeated else v
                    for k, v in self.feeds.items()
                }
                return self.program.forward(tiled).backward(seeds)
        if not self.program.on_device or count == images:
            return self.program.pull(self.values, seeds)
        found = self.program.pull(self.values, {k: _rounded_up(v) for k, v in seeds.items()})
        return {name: rows[:count] for name, rows in found.items()}

    def reduced(
        self, seeds: Value | Planted, formula: Formula, keep: Sequence[str] = ()
    ) -> dict[str, Value]:
        """Return what `formula` makes of the signals at the single `wrt`, of seeds at the single output.

        The image is one. On a device all is computed there; what is in `keep` stays there and may be seeds
        of another program. Rows of results may then be more than seeds: the last ones are repeated, so that
        one plan serves many counts.
        """
        program = self.program
        (output,), (wrt,) = program.outputs, program.wrt
        usual = self[wrt].dtype in (np.float32, np.float16) and not program.pair.pinned
        if not (program.on_device and usual and program.pair.broadcasts):
            if isinstance(seeds, Planted):
                seeds = seeds.dense(self[output].shape[seeds.axis])
            signal = self.backward({output: seeds})[wrt]
            return dict(formula(NUMPY, signal, self[wrt].astype(np.float32, copy=False)))
        axis = None
        named = {f"seed({output})": seeds}
        if isinstance(seeds, Planted):
            axis = seeds.axis
            named = {f"planes({output})": seeds.planes, f"channels({output})": seeds.channels}
        session = program.reduced_session(formula, axis)
        for name, value in named.items():
            if isinstance(value, np.ndarray):
                dtype = value.dtype if value.dtype.kind == "i" else session.dtype(name)
                named[name] = _rounded_up(value.astype(dtype, copy=False))
        return session.run({**self.values, **named}, keep=keep)

    def _in_parts(self, seeds: Mapping[str, Array], most: int) -> dict[str, Array]:
        """Run the seeds of one image `most` in one graph, and what is left of them one by one."""
        parts, begin, count = [], 0, _rows(seeds)
        while begin < count:
            copies = most if count - begin >= most else 1
            rows = {k: v[begin : begin + copies] for k, v in seeds.items()}
            parts.append(self.program.pull(self.values, rows, copies))
            begin += copies
        return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def _rounded_up(seeds: Array) -> Array:
    """Return seeds with the last one repeated until they are 1, 2, 4, or a multiple of 8."""
    step = min(8, 1 << (len(seeds) - 1).bit_length())
    missing = -len(seeds) % step
    return np.concatenate([seeds, seeds[-1:].repeat(missing, 0)]) if missing else seeds


def _rows(arrays: Mapping[str, Array]) -> int:
    return len(next(iter(arrays.values())))


def largest(values: Array) -> Array:
    """Return the seeds [N, ...] of the largest element of each image."""
    flat = values.reshape(len(values), -1)
    seed = np.zeros(flat.shape, np.float32)
    seed[np.arange(len(flat)), flat.argmax(1)] = 1
    return seed.reshape(values.shape)

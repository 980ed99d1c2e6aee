"""What every method shares: a checked batch, its target, and the linearisation of each part of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from onnxplain.backward import VJP, RuleTable
from onnxplain.errors import LayerError, TargetError
from onnxplain.executor import Array
from onnxplain.feeds import Feeds
from onnxplain.graph.layers import Layer
from onnxplain.model import Model
from onnxplain.program import Linearized, Program
from onnxplain.target import Classes, Seeds, Target, as_target, scores

Images = Array | Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class Job:
    """A batch to explain: the model at its size, checked feeds, and what is explained."""

    model: Model
    feeds: Feeds
    target: Target | Classes
    output: str
    source: str

    def explaining(self, source: str) -> Job:
        """Return the same job with respect to another input."""
        return replace(self, source=source)

    @property
    def axes(self) -> str | None:
        """Roles of the axes of the input that is explained, None where it is not a picture."""
        return next(i.axes for i in self.model.graph.inputs if i.name == self.source)

    @property
    def words(self) -> str:
        """What is explained, in words: classes by their labels."""
        by_class = self.target.output is None and self.model.classes is not None
        return self.target.words(self.model.label if by_class else str)

    def program(self, wrt: str, rules: RuleTable = VJP) -> Program:
        """Return the program of the explained output with respect to one tensor."""
        return self.model.program((self.output,), (wrt,), rules)

    def linearize(
        self, wrt: str, rules: RuleTable = VJP, ahead: bool = False, most: int | None = None
    ) -> Iterator[tuple[Linearized, Seeds]]:
        """Run forward batch by batch; yield each linearisation with the seeds of its images.

        `ahead`: the backward pass of just these seeds will be wanted, so it may run along. `most`: images
        in a batch; None takes what is fastest.
        """
        program = self.program(wrt, rules)
        for rows, target in self._batches(most):
            sizes, chosen = program.seed_sizes if ahead else None, None
            if sizes is not None:
                chosen = target.ahead((len(rows[self.source]), *sizes[self.output]))
            if chosen is not None:
                linearized = program.explain(rows, {self.output: chosen[0]})
            elif sizes is not None and target.is_largest:
                linearized = program.explain(rows, None)
            else:
                linearized = program.forward(rows)
            values = linearized[self.output]
            yield linearized, target.seeds(values) if chosen is None else Seeds.at(values, *chosen)

    def _batches(self, most: int | None) -> Iterator[tuple[Feeds, Target | Classes]]:
        """Yield the feeds of each batch and what is explained of its images."""
        done = 0
        for rows in self.model.batches(self.feeds, most):
            count = len(rows[self.source])
            target = self.target
            if isinstance(target, Classes):
                target = target.rows(slice(done, done + count))
            yield rows, target
            done += count

    def run(self, layer: str) -> Iterator[tuple[Feeds, Array, Seeds]]:
        """Run forward batch by batch; yield the feeds, a layer's activation, and the seeds of the images."""
        names = tuple(dict.fromkeys((self.output, layer)))
        for rows, target in self._batches(None):
            values = self.model.values(rows, names)
            yield rows, values[layer], target.seeds(values[self.output])

    def seeds(self) -> Seeds:
        """Return the seeds of all images, from a forward run alone."""
        return self.target.seeds(self._values(self.feeds))

    def mean_gradient(self, versions: Iterable[Array], seed: Array) -> Array:
        """Return the mean gradient over versions of the input [N, ...], for seeds [N, ...]; float64."""
        count, images, total = 0, list(range(len(seed))), np.zeros(())
        left, at_once = iter(versions), max(1, self.model.together // len(images))
        while group := list(islice(left, at_once)):
            altered = {self.source: np.concatenate(group)}
            feeds = self.model.versions(self.feeds, images * len(group), altered)
            found = self._gradients(feeds, np.concatenate([seed] * len(group)))
            found = found.reshape(len(group), len(images), *found.shape[1:])
            total = total + found.sum(0, dtype=np.float64)
            count += len(group)
        return total / count

    def _gradients(self, feeds: Feeds, seed: Array) -> Array:
        program, done, parts = self.program(self.source), 0, []
        for rows in self.model.batches(feeds):
            part = {self.output: seed[done : done + len(rows[self.source])]}
            parts.append(program.explain(rows, part).backward(part)[self.source])
            done += len(rows[self.source])
        return concat(parts)

    def scores(self, x: Array, seed: Array) -> Array:
        """Return the scores at another input [N, ...], float64 [N]."""
        return scores(seed, self._values({**self.feeds, self.source: x}))

    def _values(self, feeds: Feeds) -> Array:
        batches = self.model.batches(feeds)
        return concat([self.model.values(rows, (self.output,))[self.output] for rows in batches])

    def meta(self, method: str, program: Program | None, **more: Any) -> dict[str, Any]:
        """Return the record's meta: model, target, rules that are not exact, providers really used.

        program: None for what only runs forward.
        """
        return self.model.meta(
            method,
            target=str(self.target),
            label=self.words,
            explained=self.output,
            rules=None if program is None else program.rules,
            inexact=[] if program is None else list(program.notes),
            providers=list((program or self.model).providers),
            **more,
        )


def start(model: Model, x: Images, target: object) -> Job:
    """Check a batch and resolve its target.

    Raises InputError for what does not fit the model, TargetError for an unknown output.
    """
    at_size, feeds = model.fit(x)
    count = len(feeds[at_size.graph.source.name])
    chosen = as_target(target, count)
    logit = at_size.graph.logit
    if target is None and logit.predicted != logit.tensor and at_size.classes is not None:
        chosen = Classes(at_size.predict(feeds).classes)  # the class that the file itself answers
    output = output_tensor(at_size, chosen.output)
    return Job(at_size, feeds, chosen, output, at_size.graph.source.name)


def output_tensor(model: Model, name: str | None) -> str:
    """Return the tensor to explain for an output's name: its logit where it ends in Softmax or Sigmoid.

    Raises TargetError for a name that is neither an output nor a tensor of the graph, or for an output
    without a row per image.
    """
    if name is None:
        return model.graph.logit.tensor
    for logit in model.graph.logits:
        if name in (logit.output, logit.tensor):
            return logit.tensor
    if model.graph.layer(name) is None:
        outputs = ", ".join(logit.output for logit in model.graph.logits)
        if name in (output.name for output in model.graph.nodes.outputs):
            raise TargetError(
                f"{model.name}: output {name!r} has no row for each image; explain {outputs}"
            )
        raise TargetError(f"{model.name} has no output {name!r}; it has {outputs}")
    return name


def label(model: Model, index: int, words: str) -> str:
    """Return what was explained of an image: the label of class `index`; `words` where that is none (-1)."""
    return model.label(index) if index >= 0 else words


def whole(value: object, least: int) -> bool:
    """Return whether an option is a whole number of at least `least`."""
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return is_whole and int(value) >= least  # type: ignore[call-overload]


def cut_layer(model: Model, layer: Layer, method: str) -> None:
    """Raise LayerError unless the rest of the network is a function of `layer` alone."""
    if not layer.cut:
        raise LayerError(
            f"{method} needs a layer that every path to the logit passes, and {layer.name!r} is not one; "
            "choose one that `onnxplain inspect` marks as a cut"
        )


def join(parts: Sequence[tuple[Array, ...]]) -> list[Array]:
    """Join the results of the batches, each of several arrays."""
    return [concat(arrays) for arrays in zip(*parts, strict=True)]


def concat(parts: Sequence[Array]) -> Array:
    """Join the results of the batches."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)

"""Taking channels away instead of pixels: do the channels that a hierarchy or a map names matter?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from onnxplain.errors import InputError
from onnxplain.executor import Array
from onnxplain.graph.layers import Layer
from onnxplain.metrics.answers import Answers
from onnxplain.metrics.case import Case
from onnxplain.results import Cam

TOP = 10


class Effects(NamedTuple):
    """Shares of the rise z_c(A) - z_c(0), float64 [N, number of sets].

    drop: of the rise lost without the set's channels, the others as they are. Up is better.
    keep: of it reached with the set's channels alone. Up is better.
    """

    drop: Array
    keep: Array


def channel_effects(
    answers: Answers, layer: Layer | str, sets: Sequence[Sequence[Sequence[int]]]
) -> Effects:
    """Delete sets of channels of a layer, and keep them alone; all sets of an image run together.

    sets: for each image the same number of sets of channels. An empty set drops 0 and keeps 0. Where the
    score does not rise at all (|rise| below a millionth of the score) both are 0: there is no share of it.
    Raises LayerError for a layer that is no cut, InputError for channels that it does not have. Source:
    ours, after the evaluation of hierarchies in docs/hierarchy-results.md.
    """
    model, at = answers.model, answers.model.layer(layer)
    if len(sets) != len(answers) or len({len(row) for row in sets}) != 1:
        raise InputError(
            f"give the same number of sets of channels for each of {len(answers)} images"
        )
    ablation, output = model.ablation(at), model.graph.logit.tensor
    drop, keep = np.zeros((len(sets), len(sets[0]))), np.zeros((len(sets), len(sets[0])))
    for i, row in enumerate(sets):
        feeds = model.rows(answers.feeds, [i])
        a = model.values(feeds, (at.name,))[at.name]
        alone = np.zeros((len(row), int(at.channels or 0)))
        for chosen, one in zip(row, alone, strict=True):
            _check(chosen, one)
            one[list(chosen)] = 1
        whole, none = np.ones_like(alone[:1]), np.zeros_like(alone[:1])
        z = ablation.run(a, np.concatenate([whole, none, 1 - alone, alone]), feeds=feeds)
        assert z.ndim == 2, output
        score = z[:, answers.classes[i]].astype(np.float64)
        rise = score[0] - score[1]
        if abs(rise) > 1e-6 * max(abs(score[0]), abs(score[1])):
            drop[i] = (score[0] - score[2 : 2 + len(row)]) / rise
            keep[i] = (score[2 + len(row) :] - score[1]) / rise
    return Effects(drop, keep)


def channel_deletion(case: Case, top: int = TOP) -> Array:
    """Share of the rise z_c(A) - z_c(0) lost without the `top` channels of largest weight. Up is better.

    Below 0 or above 1 where channels work against each other. For class activation maps, whose channels
    have weights; equal weights go by index. Source: ours; see `channel_effects`.
    """
    if not isinstance(case.explanation, Cam) or case.explanation.weights is None:
        raise InputError("channel_deletion needs the weights of a class activation map")
    order = np.argsort(-case.explanation.weights, axis=1, kind="stable")[:, :top]
    sets = [[row] for row in order.tolist()]
    return channel_effects(case.answers, case.explanation.layer, sets).drop[:, 0]


def _check(chosen: Sequence[int], channels: Array) -> None:
    if any(not 0 <= int(k) < len(channels) for k in chosen):
        raise InputError(f"channels {list(chosen)} are not all within 0..{len(channels) - 1}")

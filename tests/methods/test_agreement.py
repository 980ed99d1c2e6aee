"""Agreement over a data set, against the predictions of each image."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import onnxplain as ox
from onnxplain.dataset import Run
from onnxplain.errors import ConfigError
from onnxplain.results import LayerAgreement
from tests import nets
from tests.methods.readable import BODY, K, gap_net

Array = np.ndarray[Any, Any]
X = nets.images(23, seed=3)
LABELS = np.random.default_rng(0).integers(0, 4, 23)


@cache
def model() -> ox.Model:
    return nets.load(nets.conv_net())


@cache
def readouts() -> ox.Readouts:
    return ox.fit_readouts(model(), nets.images(90, seed=7))


def test_it_counts_what_single_images_say() -> None:
    found = ox.layer_agreement(model(), (X, LABELS), readouts())
    one_by_one = ox.layer_predictions(model(), X, readouts())
    assert found.layers == one_by_one.layers and found.images == found.labelled == 23
    np.testing.assert_allclose(found.agreement, one_by_one.agrees.mean(1))
    np.testing.assert_allclose(found.p, one_by_one.p.mean(1), rtol=1e-9)
    np.testing.assert_allclose(found.entropy, one_by_one.entropies.mean(1), rtol=1e-9)
    np.testing.assert_array_equal(found.depth, np.bincount(one_by_one.depth, minlength=4))
    right = one_by_one.logits.argmax(-1) == LABELS
    np.testing.assert_allclose(found.accuracy, right.mean(1))  # type: ignore[arg-type]
    own = one_by_one.decision == LABELS
    assert found.final_accuracy == pytest.approx(own.mean())
    assert found.depth_correct is not None and found.depth_labelled is not None
    counted = np.bincount(one_by_one.depth[own], minlength=4)
    np.testing.assert_array_equal(found.depth_correct, counted)
    np.testing.assert_array_equal(found.depth_labelled, found.depth)
    assert found.median_depth == int(np.sort(one_by_one.depth)[11])
    assert 0 < found.agreement[0] < 1, "a case that decides something"


@pytest.mark.parametrize("run", [Run(workers=2, batch=3), Run(workers=1, batch=23)])
def test_batches_workers_and_order_change_nothing(run: Run) -> None:
    order = np.random.default_rng(1).permutation(23)
    found = ox.layer_agreement(model(), (X[order], LABELS[order]), readouts(), run)
    expected = ox.layer_agreement(model(), (X, LABELS), readouts())
    for name in ("agreement", "p", "entropy", "depth", "accuracy", "depth_correct"):
        mine, theirs = getattr(found, name), getattr(expected, name)
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, err_msg=name)


def test_some_labels_and_none() -> None:
    few = np.where(np.arange(23) < 5, LABELS, -1)
    some = ox.layer_agreement(model(), (X, few), readouts())
    assert (some.images, some.labelled) == (23, 5)
    first = ox.layer_agreement(model(), (X[:5], LABELS[:5]), readouts())
    np.testing.assert_allclose(some.accuracy, first.accuracy)  # type: ignore[arg-type]
    none = ox.layer_agreement(model(), X, readouts())
    assert none.labelled == 0 and none.accuracy is none.final_accuracy is none.depth_correct is None


def test_a_single_class_has_no_accuracy() -> None:
    body = BODY.replace("Softmax<axis = 1>", "Sigmoid")
    one = nets.load(gap_net("(float[N, 3, 8, 8] x) => (float[N, 1] y)", body, w=(1, K), b=(1,)))
    refs = ox.fit_readouts(one, nets.images(90, seed=7))
    found = ox.layer_agreement(one, (X, np.zeros(23, int)), refs)
    expected = ox.layer_predictions(one, X, refs)
    assert found.labelled == 0
    np.testing.assert_allclose(found.agreement, expected.agrees.mean(1))


def test_an_interrupted_pass_is_kept_and_depends_on_the_readouts(tmp_path: Any) -> None:
    run = Run(cache=tmp_path)
    found = ox.layer_agreement(model(), X, readouts(), run)
    assert ox.layer_agreement(model(), X, readouts(), run) == found
    assert len(list(tmp_path.glob("agreement-*.npz"))) == 1
    other = ox.fit_readouts(model(), nets.images(90, seed=8))
    ox.layer_agreement(model(), X, other, run)
    assert len(list(tmp_path.glob("agreement-*.npz"))) == 2


def test_saved_and_loaded_it_is_the_same(tmp_path: Any) -> None:
    found = ox.layer_agreement(model(), (X, LABELS), readouts())
    found.save(tmp_path)
    assert LayerAgreement.load(tmp_path) == found


def test_readouts_of_another_model_are_refused() -> None:
    with pytest.raises(ConfigError, match="fitted to another model"):
        ox.layer_agreement(nets.load(gap_net()), X, readouts())

from __future__ import annotations

import numpy as np
import pytest

from onnxplain.errors import InputError
from onnxplain.metrics.localise import energy_inside, pointing_game


def test_pointing_game_hits_where_the_maximum_is_inside() -> None:
    maps = np.zeros((3, 4, 6))
    maps[0, 1, 2], maps[1, 3, 5] = 1, 1
    boxes = np.array([[2, 1, 4, 3]] * 3)
    assert pointing_game(maps, boxes).tolist() == [
        1,
        0,
        0,
    ]  # the last is constant: it points nowhere
    masks = np.zeros(maps.shape, bool)
    masks[:, 1:3, 2:4] = True
    assert pointing_game(maps, masks).tolist() == [1, 0, 0]


def test_energy_is_the_share_of_the_mass_inside(rng: np.random.Generator) -> None:
    maps = rng.random((4, 5, 7))
    masks = rng.random(maps.shape) < 0.4
    expected = [m[k].sum() / m.sum() for m, k in zip(maps, masks, strict=True)]
    assert energy_inside(maps, masks) == pytest.approx(expected)


def test_boxes_are_masks_of_pixels_whose_centre_is_inside(rng: np.random.Generator) -> None:
    maps = rng.random((1, 5, 7))
    masks = np.zeros((1, 5, 7), bool)
    masks[0, 1:4, 2:5] = True
    assert energy_inside(maps, np.array([[1.6, 0.6, 5.4, 4.4]])) == energy_inside(maps, masks)


def test_negative_values_have_no_mass_and_a_map_without_mass_is_nan() -> None:
    maps = np.array([[[1.0, -9.0], [1.0, 0.0]], [[0.0, -1.0], [0.0, 0.0]]])
    found = energy_inside(maps, np.array([[0, 0, 1, 1]] * 2))
    assert found[0] == 0.5
    assert np.isnan(found[1])


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(InputError, match=r"masks \[2, 3, 3\] or boxes \[2, 4\]"):
        pointing_game(np.zeros((2, 3, 3)), np.zeros((2, 5)))
    with pytest.raises(InputError, match=r"not \[N, H, W\]"):
        energy_inside(np.zeros((3, 3)), np.zeros((3, 3)))

"""Boxes and masks, as the model sees the picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxplain.dataset.annotations import open_annotations
from onnxplain.errors import InputError
from tests.checks.made import SIDE, glass
from tests.nets import build, load

SIZE = (SIDE, SIDE)


def cropping():  # 20 x 40 pixels -> short side 16, the middle 16 x 16
    proto = build(
        f"(float[N,1,{SIDE},{SIDE}] x) => (float[N,2] logits)",
        "f = Relu(x) m = GlobalAveragePool(f) flat = Flatten(m) logits = Gemm(flat, v)",
        v=np.ones((1, 2), np.float32),
    )
    return load(proto, preprocess={"preset": "unit", "resize": "short", "short": SIDE})


def photo(tmp_path: Path, width: int = 40, height: int = 20) -> Path:
    path = tmp_path / "cat.png"
    pixels = np.zeros((height, width), np.uint8)
    pixels[5:15, 15:25] = 255  # the object
    Image.fromarray(pixels).save(path)
    return path


def saved(tmp_path: Path, document: object) -> Path:
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


COCO = {
    "images": [{"id": 7, "file_name": "cat.png", "width": 40, "height": 20}],
    "annotations": [{"image_id": 7, "category_id": 1, "bbox": [15, 5, 10, 10]}],
    "categories": [{"id": 1, "name": "half"}],
}
PLAIN = {"cat.png": [[15 / 40, 5 / 20, 25 / 40, 15 / 20]]}


PIXELS = {"cat.png": {"size": [40, 20], "boxes": [[15, 5, 25, 15]]}}


@pytest.mark.parametrize("document", [PLAIN, PIXELS, COCO], ids=["plain", "pixels", "coco"])
@pytest.mark.parametrize("make", [glass, cropping])
def test_a_box_is_where_the_model_sees_the_object(document, make, tmp_path: Path) -> None:
    model, path = make(), photo(tmp_path)
    seen = model.read([path])[0, 0] > 0.5
    mask = open_annotations(saved(tmp_path, document)).mask(str(path), "half", SIZE, model)
    assert mask.any() and not mask.all()
    assert np.abs(mask.astype(int) - seen).sum() <= 0.1 * mask.size  # but for pixels at its edges
    assert (mask & seen).sum() / (mask | seen).sum() > 0.7


@pytest.mark.parametrize("make", [glass, cropping])
def test_a_mask_goes_the_way_of_its_picture(make, tmp_path: Path) -> None:
    model, path = make(), photo(tmp_path)
    (tmp_path / "masks").mkdir()
    Image.open(path).save(tmp_path / "masks" / "cat.png")
    mask = open_annotations(tmp_path / "masks").mask(str(path), None, SIZE, model)
    assert (mask == (model.read([path])[0, 0] > 0.5)).mean() > 0.98


def test_labels_choose_among_boxes(tmp_path: Path) -> None:
    whole, half = [0, 0, 1, 1], [0, 0, 0.5, 1]
    boxes = {"cat.png": [{"box": whole, "label": "dog"}, {"box": half, "label": "Half"}]}
    found, model = open_annotations(saved(tmp_path, boxes)), glass()
    assert found.mask("some/cat.png", "half", SIZE, model).mean() == 0.5
    assert found.mask("cat.png", "dog", SIZE, model).all()
    assert not found.mask("cat.png", "bird", SIZE, model).any()
    assert not found.mask("other.png", "dog", SIZE, model).any()


def test_the_longest_end_of_a_path_counts(tmp_path: Path) -> None:
    boxes = {"a/x.png": [[0, 0, 1, 1]], "x.png": [[0, 0, 0.5, 1]]}
    found, model = open_annotations(saved(tmp_path, boxes)), glass()
    assert found.mask("data/a/x.png", None, SIZE, model).all()
    assert found.mask("data/b/x.png", None, SIZE, model).mean() == 0.5


def test_the_size_of_a_picture_that_is_cropped_must_be_known(tmp_path: Path) -> None:
    found = open_annotations(saved(tmp_path, {"x.npz[0]": [[0, 0, 1, 1]]}))
    with pytest.raises(InputError, match=r"x.npz\[0\]"):
        found.mask("x.npz[0]", None, SIZE, cropping())


def test_a_picture_without_size_is_no_coco(tmp_path: Path) -> None:
    broken = {**COCO, "images": [{**COCO["images"][0], "width": 0}]}
    with pytest.raises(InputError, match="no annotations in it"):
        open_annotations(saved(tmp_path, broken))


def test_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    for path in (tmp_path / "masks", tmp_path / "missing.json"):
        with pytest.raises(InputError):
            open_annotations(path)

"""Does LIFT-CAM outperform other class activation maps? (Jung & Oh, ICCV 2021)

    python -m tools.reproduce.cams --images 100 --slow 20 --write docs/results.md

Per model: average drop, increase in confidence, average drop in deletion, insertion and deletion, of the
predicted class at the default layer. Two tables: the maps that need a backward pass or two on --images
images; all maps, Score-CAM and Ablation-CAM too, on --slow images. On COCO: pointing game, energy in box and
IoU on the pictures where the model's answer is a class with a box in it (the picture squashed to the input,
so that nothing is cropped off). Which model has the linear head matters: there LIFT-CAM's coefficient is
the exact Shapley value, w_k mean(A_k).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnxplain as ox
from onnxplain.metrics.evaluate import evaluate
from onnxplain.metrics.tables import NOTE, tables
from onnxplain.results.evaluation import Evaluation
from tests.conftest import SHARED
from tools.reproduce.common import (
    chosen,
    load,
    markdown,
    options,
    pictures,
    provenance,
    publish,
    run,
)

MODELS = (
    "imagenet/mobilenet_v2_torchvision_float.onnx",
    "imagenet/squeezenet1_1_torchvision.onnx",
    "imagenet/squeezenet1_1_torchvision_dynamo.onnx",
    "imagenet/squeezenet1_1_torchvision_fp16.onnx",
    "imagenet/squeezenet1_1_ortq_qdq.onnx",
    "imagenet/squeezenet1_1_ortq_qoperator.onnx",
    "other/teachable_machine_catdog.onnx",
)
FAST = ("lift_cam", "grad_cam", "grad_cam_plusplus", "xgrad_cam", "hires_cam", "layer_cam")
SLOW = (*FAST[:4], "score_cam", "ablation_cam")
MEASURES = (
    "average_drop", "increase_in_confidence", "average_drop_in_deletion", "insertion", "deletion",
    "insertion_minus_deletion",
)  # fmt: skip
OBJECTS = ("pointing_game", "energy_inside", "iou")
LOCALISED = MODELS[:2]


def main() -> None:
    """Print and write the section."""
    parser = options(__doc__, 100)
    parser.add_argument("--slow", type=int, default=20, help="images for Score- and Ablation-CAM")
    given = parser.parse_args()
    models = {name: load(name, given.threads) for name in chosen(MODELS, given.files)}
    lines, found = provenance(list(models.values())), list[tuple[str, Evaluation]]()
    lines += [NOTE, ""]
    for name, model in models.items():
        for methods, count in ((FAST, given.images), (SLOW, given.slow)):
            if count:
                one = evaluate(model, pictures(name, count), methods, MEASURES, run(given.cache))
                found.append((name, one))
                lines += [line for table in tables(one) for line in markdown(table)]
    lines += ["### Where the object is (COCO)", ""]
    for name in chosen(LOCALISED, given.files):
        model = load(name, given.threads, resize="squash")
        paths, boxes = with_boxes(model)
        paths = paths[: given.images]
        one = evaluate(model, paths, FAST, OBJECTS, run(given.cache), boxes=boxes)
        found.append((f"{name}, COCO", one))
        lines += [line for table in tables(one) for line in markdown(table)]
    lines += ["### Verdict", "", *verdict(found)]
    publish("cams", "Does LIFT-CAM outperform other class activation maps?", lines, given.write)


def with_boxes(model: ox.Model) -> tuple[list[Path], dict[str, Any]]:
    """Return the COCO pictures whose predicted class has a box, and these boxes in pixels."""
    folder = SHARED / "data" / "images"
    listed = json.loads((folder / "coco_localisation.json").read_text())
    classes = listed["imagenet_indices_of_coco_class"]
    paths, boxes = [], {}
    for entry in listed["images"]:
        path = folder / "coco_localisation" / entry["file"]
        if not path.exists():
            continue
        predicted = int(model.predict(model.read([path])).classes[0])
        (w, h) = _size(path)
        mine = tuple(
            (b[0] * w, b[1] * h, b[2] * w, b[3] * h)
            for b in (
                box["xyxy"] for box in entry["boxes"] if predicted in classes.get(box["name"], ())
            )
        )
        if mine:
            paths.append(path)
            boxes[entry["file"]] = {"size": (w, h), "boxes": mine}
    return paths, boxes


def _size(path: Path) -> tuple[int, int]:
    from PIL import Image

    with Image.open(path) as image:
        return image.size


def verdict(found: list[tuple[str, Evaluation]]) -> list[str]:
    """Count in how many cells LIFT-CAM is best, tied or significantly worse."""
    from onnxplain.metrics.statistics import standings

    lines = []
    for name, one in found:
        mine = [s for s in standings(one) if s.method == "lift_cam"]
        alone = [
            s.metric for s in mine
            if s.p is None and sum(o.best for o in standings(one) if o.metric == s.metric) == 1
        ]  # fmt: skip
        tied = [s.metric for s in mine if s.best and s.metric not in alone]
        worse = [s.metric for s in mine if not s.best]
        lines.append(
            f"- {name}, {len(one.images)} images, {len(one.methods)} maps: LIFT-CAM is significantly better "
            f"than all others by {_listed(alone)}; among the best by {_listed(tied)}; significantly worse "
            f"than the best by {_listed(worse)}."
        )
    return lines


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"


if __name__ == "__main__":
    main()

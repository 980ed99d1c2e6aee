"""Write an explanation into the model file: one standard ONNX model that answers and says why.

The original outputs are computed by the file's own nodes and keep every bit, which is measured before
anything is written. New nodes read the explained layer and the predicted scores off the file's own, or,
where onnxruntime would then compute the outputs with other kernels, the inputs alone; the forward pass is
then paid for twice.

- question: what is asked of which tensor, everything checked
- nodes: the question as nodes; operators: targets, maps and heat maps
- trial: the bits of the original outputs
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import onnx

from onnxplain.embed.nodes import draft
from onnxplain.embed.question import AT_RUN_TIME, Question, ask
from onnxplain.embed.trial import Trial
from onnxplain.errors import ConfigError, ModelError
from onnxplain.files import atomic_write
from onnxplain.graph import host
from onnxplain.graph.layers import Layer
from onnxplain.model import Model
from onnxplain.preprocess import PREPROCESS_KEY
from onnxplain.target import Target

__all__ = ["METADATA", "Exported", "export"]

METADATA = "onnxplain.explanation"
"""Key of metadata_props that holds, as JSON, how the explanation was made; a prefix follows after a dot."""


@dataclass(frozen=True)
class Exported:
    """What was written: the names of new inputs and outputs, and what the file's metadata says of them.

    `shares_forward`: the explanation starts from what the file's own nodes compute; otherwise it repeats
    the forward pass, because sharing it would have changed bits of the original outputs, or because the
    question goes down to the pixels.
    """

    path: Path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shares_forward: bool
    meta: dict[str, Any]


def export(
    model: Model,
    method: str,
    path: str | Path,
    layer: Layer | str | None = None,
    target: object = None,
    grid: tuple[int, int] | None = None,
    prefix: str = "",
) -> Exported:
    """Write the model with an explanation as further outputs to the file `path`.

    method: a class activation map that runs backward once (lift_cam, grad_cam, grad_cam_plusplus, xgrad_cam,
    hires_cam, layer_cam), absolute, positive, negative, gradient, guided_backprop. layer: of class activation
    maps, or what a gradient is taken of; None is the default layer, or the input. target: None (the
    predicted class, found in the file), a class, a `Target` that is the same for all images, "input" (a
    new input `target_class`, int64 [N]; a number that is no class makes the run fail) or "seed" (a new
    input `seed`, float32, of the shape of what is explained: the vector of a vector-Jacobian product).
    grid: as for `cam`. prefix: begins the new names, for files that have them already.

    Outputs: `explanation`, the method's `.values` [N, h, w] ([N, H, W], or of the input's shape), float32
    and signed; `heatmap` [N, H, W] in 0..1, its `.heatmap()`, where it lies over the picture; and
    `explained_class` int64 [N] where the class is found in the file. Images, layout and pre-processing are
    as in the file; opsets below 18 are lifted to 18.

    Raises ConfigError (a method of many runs, a path or name taken), LayerError, TargetError, InputError,
    OutputError, UnsupportedOpError, and ModelError where the original outputs would not keep their bits.
    """
    question = ask(model, method, layer, target, grid, prefix)
    path = Path(path)
    if model.path is not None and path.resolve() == model.path.resolve():
        raise ConfigError(f"{path}: is the model itself; name another file")
    trial, problem = Trial(model), ""
    for leaves in question.ways:
        explained, written = host.restore(model.file), draft(question)
        written.write_into(explained, leaves, f"{prefix}explanation/", question.one_size)
        meta = _meta(
            question, list(written.outputs), [t.name for t in written.inputs], written.notes
        )
        _describe(explained, question, meta)
        data = explained.SerializeToString()
        problem = trial.problem(data, written.inputs)
        if not problem:
            atomic_write(path, partial(_write, data))
            shares = question.layer is not None and question.layer.name in leaves
            return Exported(path, tuple(meta["inputs"]), tuple(meta["outputs"]), shares, meta)
    raise ModelError(f"{model.name}: {problem}")


def _write(data: bytes, file: BinaryIO) -> None:
    file.write(data)


def _meta(q: Question, outputs: list[str], inputs: list[str], notes: list[str]) -> dict[str, Any]:
    return q.model.meta(
        q.method,
        target=str(q.target) if isinstance(q.target, Target) else AT_RUN_TIME[q.target],
        explained=q.output,
        layer=None if q.layer is None else q.layer.name,
        rules=q.rules.name,
        inexact=notes,
        baseline="zero activations" if q.rules.needs_reference else None,
        paper=q.paper,
        settings=q.model.preprocess.to_dict() if q.model.spec.is_picture else None,
        outputs=outputs,
        inputs=inputs,
    )


def _describe(explained: onnx.ModelProto, q: Question, meta: dict[str, Any]) -> None:
    """Write down how the explanation was made, and how pictures are fed unless that is a guess."""
    known = {entry.key for entry in explained.metadata_props}
    key = METADATA + (f".{q.prefix}" if q.prefix else "")
    explained.metadata_props.add(key=key, value=json.dumps(meta))
    told = q.model.spec.is_picture and not q.model.preprocess.source.startswith("guessed")
    if told and PREPROCESS_KEY not in known:
        settings = json.dumps(q.model.preprocess.to_dict())
        explained.metadata_props.add(key=PREPROCESS_KEY, value=settings)

"""What is to be explained of a model, and whether one graph can answer it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from onnxplain.backward import VJP, RuleTable
from onnxplain.backward.variants.guided import GUIDED
from onnxplain.errors import ConfigError, InputError, LayerError, ModelError, TargetError
from onnxplain.graph import host
from onnxplain.graph.layers import Layer
from onnxplain.methods.cam import CAMS, input_size, mapped_layer
from onnxplain.methods.common import cut_layer, output_tensor
from onnxplain.methods.registry import method_name
from onnxplain.methods.saliency import PAPER, Kind
from onnxplain.model import Model
from onnxplain.target import Target, as_target

AT_RUN_TIME = {"input": "a class, at run time", "seed": "a seed, at run time"}
"""Targets that are given with the images, in words."""

GRADIENTS: dict[str, tuple[RuleTable, str]] = {
    "gradient": (VJP, "Simonyan et al., 2013, arXiv 1312.6034"),
    "guided_backprop": (GUIDED, "Springenberg et al., 2015, arXiv 1412.6806"),
}
SALIENCY: dict[str, tuple[RuleTable, str]] = {
    kind: (VJP, PAPER) for kind in get_args(Kind) if kind not in ("active", "inactive")
}
MAPS = {kind: (row.rules, row.cite) for kind, row in CAMS.items() if row.formula is not None}
EXPORTED = MAPS | SALIENCY | GRADIENTS
"""Method -> rules and paper, of those that one forward and one backward answer."""


@dataclass(frozen=True)
class Question:
    """What is asked, everything checked.

    `target`: a `Target`, or a key of `AT_RUN_TIME`. `output`: the tensor that is explained. `layer`: None for
    the input. `images`: the size of the file's axis of images, a number or a name.
    """

    model: Model
    method: str
    target: Target | str
    output: str
    layer: Layer | None
    images: int | str | None
    prefix: str

    @property
    def rules(self) -> RuleTable:
        """The rule table of the backward pass."""
        return EXPORTED[self.method][0]

    @property
    def paper(self) -> str:
        """Where the method comes from."""
        return EXPORTED[self.method][1]

    @property
    def wrt(self) -> str:
        """The tensor that the backward pass goes to."""
        return self.model.graph.source.name if self.layer is None else self.layer.name

    @property
    def one_size(self) -> bool:
        """Whether the file leaves the image size open, which an explanation does not."""
        return any(given.open_size for given in self.model.graph.inputs)

    @property
    def predicted(self) -> str | None:
        """The tensor whose largest element is explained; None where the target is given."""
        if not isinstance(self.target, Target) or not self.target.is_largest:
            return None
        logit = self.model.graph.logit
        classifies = self.output == logit.tensor and self.model.classes is not None
        return logit.predicted if classifies else self.output

    @property
    def ways(self) -> list[list[str]]:
        """What to read off the file's own nodes beside its inputs, best first.

        The predicted scores, so that what is explained is what the file answers even where scores nearly
        tie and kernels round differently; and the layer, so that the forward pass runs once.
        """
        layer = [] if self.layer is None else [self.layer.name]
        scores = [] if self.predicted is None else [self.predicted]
        ways = [[*layer, *scores], scores, layer, []]
        return [way for i, way in enumerate(ways) if way not in ways[:i]]


def ask(
    model: Model,
    method: str,
    layer: Layer | str | None,
    target: object,
    grid: tuple[int, int] | None,
    prefix: str,
) -> Question:
    """Check what `export` is asked; raises what it raises."""
    model = model.as_stored()  # what is written reads the file's own tensors
    key = method_name(method)
    if key not in EXPORTED:
        raise ConfigError(
            f"{method} runs the model many times for an image, which no single graph does; export one of "
            f"{', '.join(EXPORTED).replace('_', '-')}"
        )
    chosen = target if isinstance(target, str) and target in AT_RUN_TIME else as_target(target, 1)
    if not isinstance(chosen, Target | str):
        raise TargetError(
            'one class per image is a question of run time: export with target="input"'
        )
    output = output_tensor(model, chosen.output if isinstance(chosen, Target) else None)
    found = _layer(model, key, output, layer, grid)
    names = host.names(model.file.proto)
    for name in ("explanation", "heatmap", "explained_class", "target_class", "seed"):
        if prefix + name in names:
            raise ConfigError(
                f"{model.name}: has a tensor {prefix + name!r} already: give a prefix for new names"
            )
    return Question(model, key, chosen, output, found, _images(model), prefix)


def _layer(
    model: Model,
    key: str,
    output: str,
    layer: Layer | str | None,
    grid: tuple[int, int] | None,
) -> Layer | None:
    """Return the layer asked about, None for the input."""
    if key in MAPS:
        chosen = mapped_layer(model, output, layer, grid)
        input_size(model)  # raises where the input is no picture
        if CAMS[key].cut:
            cut_layer(model, chosen, key)
        return chosen
    if key in SALIENCY and model.graph.source.axes is None:
        name = model.graph.source.name
        raise InputError(f"{model.name}: input {name!r} is not a picture; export its gradient")
    if key in SALIENCY and layer is not None:
        raise LayerError(f"{key} shows the input's pixels and takes no layer")
    return None if layer is None else model.layer(layer)


def _images(model: Model) -> int | str | None:
    """Return the size of the file's axis of images; raises ModelError where it promises too much."""
    images = host.images_of(model.file.proto, model.graph.source.name)
    if model.graph.pinned is not None and images != 1:
        raise ModelError(
            f"{model.name}: takes any number of images, but they can only be explained one by one "
            f"({model.graph.pinned}): export the model for one image"
        )
    return images or None

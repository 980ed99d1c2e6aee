"""What a client may ask, checked: unknown fields, wrong types and endless lists are refused."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from onnxplain.methods.growing import Seed, Weight
from onnxplain.methods.registry import METHODS
from onnxplain.serve.work import DECOMPOSE

CHOICES = (DECOMPOSE, *METHODS)
Text = Annotated[str, Field(min_length=1, max_length=1000)]
LayerName = Annotated[str, Field(max_length=20_000)]


class Asked(BaseModel):
    """A question about an uploaded picture.

    Attributes:
        image: the id that the upload was given.
        methods: names from CHOICES.
        target: what is explained, as typed on the command line; None is the predicted class.
        compare: a second target, whose hierarchy is shown against the first's.
        layers, depth, seed, weight, top_k: as for `decompose`.
        layer: of class activation maps; None is the model's default.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    image: Annotated[str, Field(max_length=100)]
    methods: Annotated[list[str], Field(min_length=1, max_length=len(CHOICES))]
    target: Text | None = None
    compare: Text | None = None
    layers: Annotated[list[LayerName], Field(min_length=1, max_length=32)] | None = None
    layer: LayerName | None = None
    depth: Annotated[int, Field(ge=1, le=32)] | None = None
    seed: Seed = "path"
    weight: Weight = "signed"
    top_k: Annotated[int, Field(ge=1, le=8)] = 3

    @field_validator("methods")
    @classmethod
    def _known(cls, methods: list[str]) -> list[str]:
        if len(set(methods)) != len(methods):
            raise ValueError("each method once")
        for name in methods:
            if name not in CHOICES:
                raise ValueError(f"choose from {', '.join(CHOICES)}")
        return methods


def sentence(error: ValidationError) -> str:
    """Return what is wrong with a question, in one sentence."""
    first: Any = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part)[:40] for part in first["loc"]) or "the question"
    return f"{where}: {first['msg'].removeprefix('Value error, ')[:300]}"

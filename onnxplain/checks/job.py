"""One pass over the data that measures all checks at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import numpy as np

from onnxplain.checks.kinds import KINDS
from onnxplain.checks.seen import Asked, Seen, View
from onnxplain.dataset import Batch, Job, Partial
from onnxplain.dataset.annotations import Annotations
from onnxplain.errors import OnnxplainError
from onnxplain.model import Model


@dataclass(frozen=True)
class Setting:
    """A check as it is to be measured; `images`: only the first ones, None for all."""

    kind: str
    asked: Asked
    options: dict[str, Any] = field(default_factory=dict)
    images: int | None = None


@dataclass(frozen=True, eq=False)
class Measuring(Job):
    """The numbers of each check i: "<i>.values" with the images' "<i>.numbers", or "<i>.error", in words."""

    settings: tuple[Setting, ...]
    roles: tuple[str, ...]
    annotations: Annotations | None = None
    devices: tuple[str, ...] = ()

    name: ClassVar[str] = "check"

    def map(self, models: Sequence[Model], batch: Batch) -> Partial:
        """Measure a batch; a check that cannot be measured leaves the others alone."""
        seen = Seen(dict(zip(self.roles, models, strict=True)), batch, self.annotations)
        found: Partial = {"numbers": batch.numbers, "names": np.array(batch.names)}
        for i, setting in enumerate(self.settings):
            kind = KINDS[setting.kind]
            chosen = seen if setting.images is None else seen.first(setting.images)
            if kind.alone or not len(chosen.batch.names):
                continue
            try:
                values = kind.measure(View(chosen, setting.asked, setting.options))
            except OnnxplainError as error:
                found[f"{i}.error"] = np.array([str(error)])
            else:
                found[f"{i}.values"], found[f"{i}.numbers"] = values, chosen.batch.numbers
        return found

    def merge(self, a: Partial, b: Partial) -> Partial:
        """List the images of both; of errors the first is kept."""
        merged = {}
        for key in a | b:
            index, _, what = key.partition(".")
            if key not in a or key not in b:
                merged[key] = a.get(key, b.get(key))
            elif what == "error":
                merged[key] = a[key]
            elif what == "values":
                merged[key] = KINDS[self.settings[int(index)].kind].merge(a[key], b[key])
            else:
                merged[key] = np.concatenate([a[key], b[key]])
        return merged  # type: ignore[return-value]

    def key(self) -> Any:
        """Return the settings, and the devices: their numbers differ."""
        pictures = None if self.annotations is None else self.annotations.key()
        return [[asdict(s) for s in self.settings], self.roles, pictures, self.devices]

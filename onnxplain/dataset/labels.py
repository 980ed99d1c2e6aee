"""What the data call a class -> the model's number of it."""

from __future__ import annotations

from onnxplain.dataset.source import Item, Source
from onnxplain.errors import InputError
from onnxplain.model import Model

UNKNOWN = -1


class Numbering:
    """The classes of a data set as a model numbers them.

    Names count as the model's labels where all are among them; else as numbers where they are such; else,
    where there are as many as the model has classes, by their order (torchvision's ImageFolder). `note` says
    why names could not be used.
    """

    def __init__(self, source: Source, model: Model) -> None:
        """Look at the names of all classes of the source."""
        self._classes, self._model = model.classes, model.name
        self._numbers: dict[str, int] = {}
        self.note: str | None = None
        names = source.label_names
        known = {label.casefold(): i for i, label in enumerate(model.labels or ())}
        if all(name.casefold() in known for name in names):
            self._numbers = {name: known[name.casefold()] for name in names}
        elif all(name.isdecimal() for name in names):
            self._numbers = {name: int(name) for name in names}
        elif len(names) == model.classes:
            self._numbers = {name: i for i, name in enumerate(names)}
        else:
            unknown = next(n for n in names if n.casefold() not in known)
            self.note = f"labels are not used: {unknown!r} is no label of {model.name}"

    def number(self, item: Item) -> int:
        """Return an item's class, -1 where it is not known; raises InputError for one the model has not."""
        if item.label is None:
            return UNKNOWN
        number = (
            self._numbers.get(item.label, UNKNOWN) if isinstance(item.label, str) else item.label
        )
        # A single logit tells two classes apart.
        if self._classes is not None and number >= max(self._classes, 2):
            raise InputError(
                f"{item.name}: class {number}, but {self._model} has {self._classes}: the labels belong to "
                "another model, or count from 1"
            )
        return number

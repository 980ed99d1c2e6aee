"""Results as files. Their names are ours: what a client asks for is looked up, never opened."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from onnxplain.hierarchy.exports import SUFFIXES, write
from onnxplain.methods.registry import METHODS
from onnxplain.model import Model
from onnxplain.page import page_html
from onnxplain.serve.work import Answer, document, figure, tile

TREE = "hierarchy"
KINDS = {
    "png": "image/png", "json": "application/json", "npz": "application/octet-stream",
    "graphml": "application/graphml+xml", "dot": "text/vnd.graphviz", "gexf": "application/gexf+xml",
    "html": "text/html",
}  # fmt: skip
"""Media types by suffix."""


@dataclass(frozen=True)
class Download:
    """A file for the client; `saved`: to be kept as a file, never shown as a page of ours."""

    name: str
    data: bytes
    saved: bool = True

    @property
    def kind(self) -> str:
        """Its media type."""
        return KINDS[self.name.rpartition(".")[2]]

    @property
    def headers(self) -> dict[str, str]:
        """Its headers."""
        return {"Content-Disposition": f'attachment; filename="{self.name}"'} if self.saved else {}


Maker = Callable[[Model, Answer], bytes]


def make(model: Model, found: Answer, name: str) -> Download | None:
    """Return a result as a file, None where it has no file of this name; raises what writing it raises."""
    maker = FILES.get(name)
    if maker is None or name not in names_of(found):
        return None
    return Download(name, maker(model, found), saved=not name.endswith(".tile.png"))


def names_of(found: Answer) -> list[str]:
    """Return the names of the files that a result has."""
    having = set(found.records) | ({TREE} if found.hierarchies else set())
    return [name for name in FILES if name.partition(".")[0] in having]


def png(image: Image.Image) -> bytes:
    """Return a picture as the bytes of a PNG file."""
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=3)
    return out.getvalue()


def _written(name: str, writes: Callable[[Path], object]) -> bytes:
    """Return the bytes of the file `name` that `writes(folder)` makes."""
    with tempfile.TemporaryDirectory(prefix="onnxplain-") as folder:
        writes(Path(folder))
        return (Path(folder) / name).read_bytes()


def _of_tree(name: str, whole: str, _: Model, found: Answer) -> bytes:
    """Return the file `name`, made by writing the hierarchy as `whole`: a .npz comes beside its .json."""
    return _written(name, lambda folder: write(found.hierarchies[0], folder / whole))


def _of_record(method: str, suffix: str, _: Model, found: Answer) -> bytes:
    return _written(f"{method}.{suffix}", lambda folder: found.records[method].save(folder, method))


def _page(_: Model, found: Answer) -> bytes:
    return page_html(document(found)).encode()


def _files() -> dict[str, Maker]:
    """Return how every file that there can be is made, by its name."""
    made: dict[str, Maker] = {f"{TREE}.html": _page}
    for suffix in SUFFIXES:
        made[f"{TREE}{suffix}"] = partial(_of_tree, f"{TREE}{suffix}", f"{TREE}{suffix}")
    made[f"{TREE}.npz"] = partial(_of_tree, f"{TREE}.npz", f"{TREE}.json")
    for method in METHODS:
        made[f"{method}.tile.png"] = partial(lambda m, _, found: png(tile(found, m)), method)
        made[f"{method}.png"] = partial(
            lambda m, model, found: png(figure(model, found, m)), method
        )
        for suffix in ("npz", "json"):
            made[f"{method}.{suffix}"] = partial(_of_record, method, suffix)
    return made


FILES = _files()

"""Every kind of data set gives the same pictures and classes; what is broken is said in a line."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import onnxplain as ox
from onnxplain.dataset import First, Item, open_data, take
from onnxplain.dataset.items import read_item
from onnxplain.dataset.labels import Numbering
from onnxplain.errors import InputError
from tests import nets
from tests.dataset import made

KINDS: dict[str, Callable[[Path], Any]] = {
    "folder": lambda p: made.flat(p / "d"),
    "paths": lambda p: sorted(made.flat(p / "d").iterdir()),
    "labelled paths": lambda p: (sorted(made.flat(p / "d").iterdir()), made.labels()),
    "classes": lambda p: made.by_class(p / "d"),
    "csv": lambda p: made.listing(p / "d", ".csv"),
    "tsv": lambda p: made.listing(p / "d", ".tsv"),
    "json": lambda p: made.listing(p / "d", ".json"),
    "jsonl": lambda p: made.listing(p / "d", ".jsonl"),
    "npz": lambda p: made.npz(p / "d.npz", compressed=False),
    "compressed npz": lambda p: made.npz(p / "d.npz", compressed=True),
    "encoded npz": lambda p: made.encoded(p / "d.npz"),
    "tar": lambda p: made.tars(p / "d", 1) / "0000.tar",
    "tars": lambda p: made.tars(p / "d"),
    "parquet": lambda p: made.parquet(p / "d") / "0.parquet",
    "parquets": lambda p: made.parquet(p / "d"),
    "array": lambda p: made.pixels(),
    "labelled array": lambda p: (made.pixels(), made.labels()),
}
UNLABELLED = ("folder", "paths", "array")


@pytest.fixture
def model() -> ox.Model:
    return nets.load(nets.conv_net(), preprocess="raw", labels=made.CLASSES)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_holds_the_same(kind: str, tmp_path: Path, model: ox.Model) -> None:
    source = open_data(KINDS[kind](tmp_path))
    numbering = Numbering(source, model)
    items = [source.item(i) for i in range(len(source))]
    order = np.arange(made.COUNT)
    if kind == "classes":
        order = np.argsort(made.labels(), kind="stable")
    if kind == "parquet":
        order = order[:7]
    expected = made.pixels()[order].transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(np.concatenate([read_item(i, model) for i in items]), expected)
    classes = [-1 if kind in UNLABELLED else made.labels()[i] for i in order]
    assert [numbering.number(item) for item in items] == classes
    assert numbering.note is None
    packed = [read_item(item.packed(), model) for item in items]
    np.testing.assert_array_equal(np.concatenate(packed), expected)
    assert source.item(5).name == source.item(5).packed().name
    assert len({item.name for item in items}) == len(items)


@pytest.mark.parametrize("kind", KINDS)
def test_the_key_tells_whether_the_data_changed(kind: str, tmp_path: Path) -> None:
    data = KINDS[kind](tmp_path)
    key = open_data(data).key()
    assert open_data(data).key() == key
    if isinstance(data, Path):
        files = [data] if data.is_file() else sorted(p for p in data.rglob("*") if p.is_file())
        if kind in ("csv", "tsv", "json", "jsonl"):
            files = [data.parent / "07.png"]
        files[-1].write_bytes(files[-1].read_bytes() + b" ")
        if kind.startswith("parquet"):
            return  # its footer is at the end: not sound any more
    elif isinstance(data, list):
        data = data[:-1]
    elif isinstance(data, tuple):
        data = (data[0], [*data[1][:-1], 3])
    else:
        data[0, 0, 0, 0] ^= 1
    assert open_data(data).key() != key


def test_model_input_is_taken_as_it_is(model: ox.Model) -> None:
    x = nets.images(4)
    source = open_data(x)
    np.testing.assert_array_equal(read_item(source.item(2), model), x[2:3])
    with pytest.raises(InputError, match=r"array\[0\]: has shape \[3, 9, 9\]"):
        read_item(open_data(np.zeros((1, 3, 9, 9), np.float32)).item(0), model)
    with pytest.raises(InputError, match="NaN"):
        read_item(Item("bad", np.full((3, 8, 8), np.nan, np.float32)), model)


def test_files_of_several_inputs_are_no_items(model: ox.Model, tmp_path: Path) -> None:
    np.save(tmp_path / "two.npy", nets.images(2))
    with pytest.raises(InputError, match=r"two.npy: of shape \[2, 3, 8, 8\], not one input"):
        read_item(open_data(tmp_path / "two.npy").item(0), model)


def test_npz_arrays_are_mapped_not_read(tmp_path: Path) -> None:
    for compressed in (False, True):
        source = open_data(made.npz(tmp_path / f"{compressed}.npz", compressed))
        assert isinstance(source._rows, np.memmap)  # type: ignore[attr-defined]


# --- classes -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("names", "labels", "expected"),
    [
        (["Bee", "CAT"], made.CLASSES, {"Bee": 1, "CAT": 2}),  # by label, whatever their case
        (["3", "0"], None, {"3": 3, "0": 0}),
        (["w", "z", "x", "y"], None, {"w": 0, "x": 1, "y": 2, "z": 3}),  # by order, one each
        (["w", "x"], None, None),
        (["ant", "cow"], made.CLASSES, None),
    ],
)
def test_names_of_classes(
    names: list[str], labels: Any, expected: dict[str, int] | None, tmp_path: Path
) -> None:
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "p.png").write_bytes(made.png(made.pixels()[0]))
    source = open_data(tmp_path)
    numbering = Numbering(source, nets.load(nets.conv_net(), labels=labels))
    found = {str(i.label): numbering.number(i) for i in map(source.item, range(len(source)))}
    if expected is None:
        assert set(found.values()) == {-1} and "labels are not used" in str(numbering.note)
    else:
        assert found == expected and numbering.note is None


def test_classes_that_the_model_has_not(model: ox.Model) -> None:
    source = open_data((made.pixels(), [4] * made.COUNT))
    with pytest.raises(InputError, match=r"class 4, but .* has 4: .* count from 1"):
        Numbering(source, model).number(source.item(0))


# --- what is broken ------------------------------------------------------------------------------------
def text(name: str, content: str | bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        data = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(data)
        return folder / name

    return write


def arrays(**given: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        np.savez(folder / "d.npz", **given)
        return folder / "d.npz"

    return write


def pickled(folder: Path) -> Path:
    np.save(folder / "d.npy", np.array([object()]), allow_pickle=True)
    import zipfile

    with zipfile.ZipFile(folder / "d.npz", "w") as archive:
        archive.write(folder / "d.npy", "images.npy")
    return folder / "d.npz"


def empty_tar(folder: Path) -> Path:
    with tarfile.open(folder / "d.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("readme.md"), io.BytesIO())
    return folder / "d.tar"


OFFSETS = {"jpeg": np.zeros(5, np.uint8), "labels": np.zeros(2, int)}
BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda p: p / "nowhere", "no such file or folder"),
    "empty folder": (lambda p: p, "no files"),
    "unknown kind": (text("d.doc", "x"), "no data set that can be read"),
    "no csv": (text("d.csv", ""), "lists nothing"),
    "no column": (text("d.csv", "a,b\n1,2\n"), "has no column file, path"),
    "gap in a column": (text("d.csv", 'file\nx.png\n""\n'), "has no column"),
    "no json": (text("d.json", "{"), "not a sound JSON list"),
    "no list": (text("d.json", '{"file": "x"}'), "not a list of objects"),
    "deep json": (text("d.json", "[" * 100_000), "not a sound JSON list"),
    "no npz": (text("d.npz", "PK nonsense"), "not a sound .npz"),
    "pickles": (pickled, "pickled"),
    "no images": (arrays(a=np.zeros(3), b=np.zeros(3)), "call the images"),
    "two candidates": (arrays(a=np.zeros((3, 2)), b=np.zeros((3, 2))), "call the images"),
    "no rows": (arrays(images=np.zeros((0, 3, 8, 8))), "not a row per image"),
    "other labels": (arrays(images=made.pixels(), labels=np.zeros(2, int)), "not a class for each"),
    "float labels": (arrays(images=made.pixels(), labels=np.zeros(13)), "not a class for each"),
    "offsets beyond": (arrays(offsets=np.array([0, 3, 9]), **OFFSETS), "outside the 5 bytes"),
    "offsets back": (arrays(offsets=np.array([0, 3, 2]), **OFFSETS), "outside the 5 bytes"),
    "offsets of floats": (arrays(offsets=np.array([0.0, 3, 5]), **OFFSETS), "whole numbers"),
    "no tar": (text("d.tar", "nonsense" * 100), "not a sound, uncompressed tar"),
    "tar of nothing": (empty_tar, "no pictures"),
    "no parquet": (text("d.parquet", "nonsense"), "not a sound Parquet file"),
    "numbers": (lambda p: 7, "is no folder, file, array or list"),
    "scalars": (lambda p: np.zeros(3), "not a row per image"),
    "no paths": (lambda p: [], "is no folder, file, array or list"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_is_said(case: str, tmp_path: Path) -> None:
    make, says = BROKEN[case]
    with pytest.raises(InputError) as caught:
        open_data(make(tmp_path))
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_list_beside_its_folder(tmp_path: Path) -> None:
    made.flat(tmp_path / "pictures")
    rows = [{"file": "00.png"}, {"file": "gone.png"}]
    (tmp_path / "classes.json").write_text(json.dumps(rows))
    source = open_data(tmp_path / "classes.json")
    assert source.item(0).content == tmp_path / "pictures" / "00.png"
    with pytest.raises(InputError, match=r"gone\.png"):
        source.item(1).packed()


def test_hidden_and_other_files_are_no_pictures(tmp_path: Path) -> None:
    made.flat(tmp_path / "d")
    (tmp_path / "d" / ".hidden.png").write_bytes(b"")
    (tmp_path / "d" / "notes.txt").write_text("")
    (tmp_path / "d" / "folder.png").mkdir()
    assert len(open_data(tmp_path / "d")) == made.COUNT


def test_grey_pictures_and_alpha(tmp_path: Path, model: ox.Model) -> None:
    Image.new("LA", (8, 8), (100, 255)).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_item(open_data(tmp_path).item(0), model), 100)


def test_the_first_items_alone(model: ox.Model) -> None:
    whole = open_data((made.pixels(), np.array(made.labels())))
    few = First(whole, 4)
    assert (len(few), len(First(whole, 99)), few.name) == (4, made.COUNT, whole.name)
    np.testing.assert_array_equal(few.item(3).content, whole.item(3).content)
    assert len({few.key(), First(whole, 5).key(), whole.key()}) == 3


def test_one_item_is_taken_for_every_model(model: ox.Model) -> None:
    pixels = made.pixels()
    batch = take(pixels, (model, model), 5)
    assert batch is not None and batch.numbers.tolist() == [5] and len(batch.inputs) == 2
    np.testing.assert_array_equal(batch.x, model.read(pixels[5]))
    assert take(["missing.png", "gone.png"], (model,), 1) is None

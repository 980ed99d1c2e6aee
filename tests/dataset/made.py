"""Data sets of all kinds that hold the same pictures with the same classes."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

COUNT = 13
CLASSES = ("ant", "bee", "cat", "dog")


def pixels(count: int = COUNT) -> np.ndarray:
    """Return pictures uint8 [count, 8, 8, 3]."""
    return np.random.default_rng(3).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)


def labels(count: int = COUNT) -> list[int]:
    """Return their classes."""
    return [i % len(CLASSES) for i in range(count)]


def png(picture: np.ndarray) -> bytes:
    """Encode a picture without loss."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    return file.getvalue()


def flat(folder: Path, count: int = COUNT) -> Path:
    """Write the pictures into one folder."""
    folder.mkdir(exist_ok=True)
    for i, picture in enumerate(pixels(count)):
        (folder / f"{i:02}.png").write_bytes(png(picture))
    return folder


def by_class(folder: Path) -> Path:
    """Write the pictures into a folder per class: sorted by class, then by number."""
    for i, (picture, label) in enumerate(zip(pixels(), labels(), strict=True)):
        (folder / CLASSES[label]).mkdir(parents=True, exist_ok=True)
        (folder / CLASSES[label] / f"{i:02}.png").write_bytes(png(picture))
    return folder


def listing(folder: Path, suffix: str) -> Path:
    """Write the pictures and a list of them."""
    flat(folder)
    rows = [{"file": f"{i:02}.png", "label": CLASSES[k]} for i, k in enumerate(labels())]
    path = folder / f"list{suffix}"
    if suffix == ".json":
        path.write_text(json.dumps(rows))
    elif suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(
                file, ["file", "label"], delimiter="\t" if suffix == ".tsv" else ","
            )
            writer.writeheader()
            writer.writerows(rows)
    return path


def npz(path: Path, compressed: bool) -> Path:
    """Write pictures and classes as arrays."""
    save = np.savez_compressed if compressed else np.savez
    save(path, images=pixels(), labels=np.array(labels()))
    return path


def encoded(path: Path) -> Path:
    """Write the pictures encoded, end to end."""
    files = [png(picture) for picture in pixels()]
    offsets = np.cumsum([0, *map(len, files)])
    data = np.frombuffer(b"".join(files), np.uint8)
    np.savez(path, jpeg=data, offsets=offsets, labels=np.array(labels()))
    return path


def tars(folder: Path, shards: int = 2) -> Path:
    """Write the pictures as WebDataset does."""
    folder.mkdir()
    bounds = np.linspace(0, COUNT, shards + 1).astype(int)
    for shard in range(shards):
        with tarfile.open(folder / f"{shard:04}.tar", "w") as tar:
            for i in range(bounds[shard], bounds[shard + 1]):
                for suffix, data in (("png", png(pixels()[i])), ("cls", str(labels()[i]).encode())):
                    entry = tarfile.TarInfo(f"x/{i:02}.{suffix}")
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
    return folder


def parquet(folder: Path) -> Path:
    """Write the pictures as the Hugging Face hub has them, in two files of row groups of three."""
    folder.mkdir()
    rows = [{"bytes": png(p), "path": None} for p in pixels()]
    for i, part in enumerate((slice(0, 7), slice(7, None))):
        table = pa.table({"image": rows[part], "label": labels()[part]})
        pq.write_table(table, folder / f"{i}.parquet", row_group_size=3)
    return folder

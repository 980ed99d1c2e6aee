"""images.open_image: every kind of picture file, and every kind of broken one."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxplain.errors import InputError
from onnxplain.preprocess import InputSpec, Preprocess, open_image, read
from onnxplain.preprocess.images import MAX_PIXELS

SPEC = InputSpec("x", (3, 8, 8), np.dtype("float32"))
RAW = Preprocess.preset("raw")


def pixels(path: Path) -> np.ndarray:
    return np.asarray(open_image(path)).astype(int)


def gradient() -> np.ndarray:
    """Return a smooth picture [20, 30, 3] that survives JPEG."""
    y, x = np.mgrid[:20, :30]
    return np.stack([8 * x, 12 * y, 4 * (x + y)], -1).astype(np.uint8)


# --- kinds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "webp", "gif", "jpg"])
def test_formats(suffix, tmp_path) -> None:
    path = tmp_path / f"a.{suffix}"
    options = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}
    Image.fromarray(gradient()).save(path, **options.get(suffix, {}))
    tolerance = {"jpg": 3, "gif": 40}.get(suffix, 0)  # 256 colours
    assert np.abs(pixels(path) - gradient()).max() <= tolerance


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path) -> None:
    levels = np.array([[0, 257, 300, 32768, 65535]], np.uint16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(levels).save(tmp_path / name)
        np.testing.assert_array_equal(pixels(tmp_path / name), [[0, 1, 1, 128, 255]])


def test_thirty_two_bit_grey_is_refused(tmp_path) -> None:
    for dtype in (np.float32, np.int32):
        Image.fromarray(np.zeros((4, 4), dtype)).save(tmp_path / "a.tif")
        with pytest.raises(InputError, match="no agreed range"):
            open_image(tmp_path / "a.tif")


def test_alpha_is_laid_over_white(tmp_path) -> None:
    red = np.full((2, 4, 4), (200, 0, 0, 255), np.uint8)
    red[..., 3] = [0, 51, 102, 255]
    Image.fromarray(red).save(tmp_path / "a.png")
    share = red[..., 3:] / 255
    want = share * [200, 0, 0] + (1 - share) * 255
    assert np.abs(pixels(tmp_path / "a.png") - want).max() <= 1


def test_transparent_palette_and_grey(tmp_path) -> None:
    palette = Image.frombytes("P", (2, 1), b"\0\1")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.save(tmp_path / "p.png", transparency=b"\x00\xff")
    np.testing.assert_array_equal(pixels(tmp_path / "p.png"), [[[255] * 3, [40, 50, 60]]])
    grey = Image.frombytes("LA", (2, 1), b"\x09\x00\x09\xff")
    grey.save(tmp_path / "la.png")
    np.testing.assert_array_equal(pixels(tmp_path / "la.png"), [[255, 9]])
    Image.fromarray(np.array([[7, 9]], np.uint8)).save(tmp_path / "l.png", transparency=7)
    np.testing.assert_array_equal(pixels(tmp_path / "l.png"), [[255, 9]])


def test_cmyk_and_bilevel(tmp_path) -> None:
    Image.new("CMYK", (8, 8), (255, 0, 0, 0)).save(tmp_path / "c.tif")
    np.testing.assert_array_equal(pixels(tmp_path / "c.tif")[0, 0], [0, 255, 255])
    Image.new("1", (8, 8), 1).save(tmp_path / "b.png")
    assert pixels(tmp_path / "b.png").min() == 255


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation, tmp_path) -> None:
    up = gradient()
    stored = {  # how a camera stores an upright picture under each tag (EXIF 2.32, 4.6.4)
        1: up,
        2: up[:, ::-1],
        3: up[::-1, ::-1],
        4: up[::-1],
        5: up.transpose(1, 0, 2),
        6: np.rot90(up, 1),
        7: np.rot90(up, 2).transpose(1, 0, 2),
        8: np.rot90(up, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), up)


@pytest.mark.parametrize("suffix", ["gif", "webp", "tif"])
def test_the_first_picture_of_several_is_taken(suffix, tmp_path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("#ff0000", "#0000ff")]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    red, green, blue = pixels(tmp_path / f"a.{suffix}")[4, 4]
    assert red > 250 and green < 5 and blue < 5


# --- broken or hostile ----------------------------------------------------------------------------


def png_claiming(width: int, height: int) -> bytes:
    """Return a valid PNG header of that size with a few bytes of data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 100)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(9_460, 9_460), (60_000, 60_000), (2_000_000_000, 2)])
def test_bombs_are_refused_before_decoding(size, tmp_path) -> None:
    assert size[0] * size[1] > MAX_PIXELS
    (tmp_path / "bomb.png").write_bytes(png_claiming(*size))
    with pytest.raises(InputError, match=r"bomb\.png.*scale it down"):
        open_image(tmp_path / "bomb.png")


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "tif", "webp", "bmp"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated_files(suffix, share, tmp_path, rng) -> None:
    buffer = io.BytesIO()
    noise = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    noise.save(buffer, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper()))
    (tmp_path / f"cut.{suffix}").write_bytes(buffer.getvalue()[: int(share * buffer.tell())])
    with pytest.raises(InputError, match=rf"cut\.{suffix}"):
        open_image(tmp_path / f"cut.{suffix}")


def test_no_damage_escapes_as_another_error(tmp_path, rng) -> None:
    """Flip bytes anywhere in small files of every format: a picture or an InputError."""
    path = tmp_path / "a"
    for name in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM"):
        buffer = io.BytesIO()
        Image.fromarray(gradient()).save(buffer, name)
        for _ in range(40):
            data = bytearray(buffer.getvalue())
            for at in rng.integers(0, min(len(data), 400), 4):
                data[at] = rng.integers(256)
            path.write_bytes(data)
            try:
                assert open_image(path).mode in ("RGB", "L")
            except InputError as error:
                assert str(path) in str(error)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"hello, I am a text file", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
    ],
    ids=["empty", "text", "EPS"],
)
def test_not_a_picture(data, message, tmp_path) -> None:
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(InputError, match=rf"a\.jpg.*{message}"):
        read([tmp_path / "a.jpg"], SPEC, RAW)


def test_missing_file_and_folder(tmp_path) -> None:
    with pytest.raises(InputError, match=r"no\.png: no such file"):
        read(str(tmp_path / "no.png"), SPEC, RAW)
    with pytest.raises(InputError, match="is not a file"):
        read(tmp_path, SPEC, RAW)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([], "no pictures given"),
        (np.zeros((0, 8, 8, 3), np.uint8), "no pictures given"),
        (np.zeros((8, 8, 3), np.float32), r"not float32 \[8, 8, 3\]"),
        (np.zeros((8, 8, 4), np.uint8), r"not uint8 \[8, 8, 4\]"),
        (np.zeros(8, np.uint8), r"not uint8 \[8\]"),
        (np.zeros((0, 8, 3), np.uint8), "has no pixels"),
        ([Image.new("RGB", (8, 8)), 3.5], "picture 1: is a float"),
        ([Image.new("RGB", (0, 8))], "0 x 8 pixels"),
    ],
)
def test_wrong_sources(source, message) -> None:
    with pytest.raises(InputError, match=message):
        read(source, SPEC, RAW)


def test_pillow_pictures_are_left_as_they_were(rng) -> None:
    image = Image.fromarray(rng.integers(0, 256, (9, 7, 4), dtype=np.uint8))
    before = image.tobytes()
    read(image, SPEC, RAW)
    assert image.mode == "RGBA" and image.tobytes() == before

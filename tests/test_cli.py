"""The command line as users meet it: what it prints, what it writes, and every kind of bad input."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser
from PIL import Image

from onnxplain.cli.app import main
from onnxplain.results import Record

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "models" / "vgg_cifar10.onnx"
CAT = ROOT / "models" / "samples" / "cat.jpg"


class Ran:
    """Exit code and output of one command."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Ran]:
    """Return a function that runs a command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def command(*args: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["onnxplain", *map(str, args)])
        with pytest.raises(SystemExit) as caught:
            main()
        captured = capsys.readouterr()
        code = caught.value.code
        return Ran(code if isinstance(code, int) else 0, captured.out, captured.err)

    return command


def failed(ran: Ran, *says: str) -> None:
    """Assert a short error on stderr with exit code 2, and no traceback."""
    assert ran.code == 2, (ran.out, ran.err)
    assert "Traceback" not in ran.err
    lines = [line for line in ran.err.splitlines() if "pre-processing guessed" not in line]
    assert 1 <= len(lines) <= 2, ran.err
    for text in says:
        assert text in ran.err, ran.err


# --- the main job -------------------------------------------------------------------------------
def test_explain_writes_a_picture_and_records(run: Callable[..., Ran], tmp_path: Path) -> None:
    ran = run("explain", MODEL, CAT, "--method", "lift-cam,positive", "--out", "out")
    assert ran.code == 0, ran.err
    assert "cat 9" in ran.out
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "cat.lift_cam.json", "cat.lift_cam.npz", "cat.png", "cat.positive.json", "cat.positive.npz",
    ]  # fmt: skip
    with Image.open(tmp_path / "out" / "cat.png") as picture:
        assert min(picture.size) >= 360
    record = Record.load(tmp_path / "out", "cat.lift_cam")
    assert record.heatmap()[0].max() == 1  # type: ignore[attr-defined]


def test_explain_prints_json_and_nothing_else(run: Callable[..., Ran]) -> None:
    ran = run("explain", MODEL, CAT, "--json")
    (result,) = json.loads(ran.out)
    assert result["top"][0]["label"] == "cat"
    assert [m["method"] for m in result["methods"]] == ["lift_cam", "positive"]
    assert Path(result["picture"]).is_file()


def test_a_contrast_by_labels(run: Callable[..., Ran]) -> None:
    ran = run("explain", MODEL, CAT, "--method", "grad-cam", "--target", "cat-dog", "--json")
    (result,) = json.loads(ran.out)
    assert result["methods"][0]["class"] == -1
    assert result["methods"][0]["label"] == "cat minus dog"


def test_images_of_one_name_do_not_overwrite_each_other(
    run: Callable[..., Ran], tmp_path: Path
) -> None:
    other = tmp_path / "other" / "cat.jpg"
    other.parent.mkdir()
    other.write_bytes((CAT.parent / "horse.jpg").read_bytes())
    ran = run("explain", MODEL, CAT, other, "--method", "positive", "--json")
    pictures = {result["picture"] for result in json.loads(ran.out)}
    assert len(pictures) == 2


def test_inspect_gives_its_verdict_first(run: Callable[..., Ran]) -> None:
    ran = run("inspect", MODEL)
    assert ran.code == 0
    assert ran.out.splitlines()[0].endswith(": ready")
    assert "(default)" in ran.out
    assert "metadata_props" in ran.out
    data = json.loads(run("inspect", MODEL, "--json").out)
    assert data["ready"] is True
    assert {op["type"] for op in data["ops"]} >= {"Conv", "Relu", "MaxPool", "Gemm"}


def test_inspect_names_what_blocks(run: Callable[..., Ran], tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["": 18, "my.ops": 1]>
        g (float[N, 4] x) => (float[N, 4] y) { a = Relu (x)  y = my.ops.Strange (a) }"""
    path = tmp_path / "strange.onnx"
    onnx.save(parser.parse_model(text), path)
    ran = run("inspect", path)
    assert ran.code == 2
    assert "Strange" in ran.out + ran.err


def test_demo_runs_the_main_job(run: Callable[..., Ran], tmp_path: Path) -> None:
    ran = run("demo", "--out", "demo")
    assert ran.code == 0, ran.err
    assert {p.name for p in (tmp_path / "demo").glob("*.png")} == {
        "cat.png", "horse.png", "rocket.png",
    }  # fmt: skip


def test_version_and_help(run: Callable[..., Ran]) -> None:
    assert run("--version").out.startswith("onnxplain 0.")
    assert "inspect" in run("--help").out


# --- bad models -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.onnx", b""),
        ("text.onnx", b"just some text\n" * 50),
        ("random.onnx", np.random.default_rng(0).bytes(5000)),
        ("cut.onnx", MODEL.read_bytes()[:50_000]),
    ],
)
@pytest.mark.parametrize("command", ["inspect", "explain"])
def test_a_broken_model(
    run: Callable[..., Ran], tmp_path: Path, name: str, content: bytes, command: str
) -> None:
    (tmp_path / name).write_bytes(content)
    images = [CAT] if command == "explain" else []
    failed(run(command, tmp_path / name, *images), name)


def test_a_missing_model(run: Callable[..., Ran]) -> None:
    failed(run("inspect", "absent.onnx"), "absent.onnx", "no such file")


# --- bad settings ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--method", "lift-cat", "lift-cam"),
        ("--layer", "relu3_3", "did you mean 'relu3_2'?"),
        ("--layer", "relu_fc1", "not a feature map"),
        ("--target", "10", "0..9"),
        ("--target", "tiger", "tiger"),
        ("--target", "", "is none of: a class number, a label, A-B, A-mean, or output[index]"),
        ("--target", "3-", "is none of"),
        ("--target", "cat - cow", "is none of"),
        ("--target", "logits", "is none of"),
        ("--target", "logits[x]", "indices must be whole numbers or ranges"),
        ("--target", "logits[]", "indices must be whole numbers or ranges"),
        ("--target", "logits[1:2:3]", "indices must be whole numbers or ranges"),
        ("--target", "logits[1]>", "is none of"),
        ("--target", "logits[1]>nan", "above must be a finite number"),
        ("--target", "logits[:]>99", "in some image nothing is above 99"),
        ("--target", "logits[12]", "class 12 does not exist: this model has 10 (0..9)"),
        ("--target", "logits[1,2]", "has more axes than the output"),
        ("--target", "logits[5:2]", "selects nothing"),
        ("--target", "boxes[1]", "has no output 'boxes'; it has logits"),
        ("--target", "similar:", "is none of"),
        ("--target", "similar:none.jpg", "none.jpg: no such file"),
        ("--target", "faces[similar:none.jpg]", "none.jpg: no such file"),
        ("--grid", "8", "grid '8' is not height x width, as in 14x14"),
        ("--grid", "8x-8", "is not height x width"),
        ("--grid", "4x4", "has no tokens to put on a grid"),
        ("--preprocess", "imagent", "imagenet"),
        ("--preprocess", "missing.toml", "missing.toml"),
        ("--labels", "missing.txt", "missing.txt"),
        ("--device", "tpu", "cuda"),
        ("--threads", "0", "threads"),
    ],
)
def test_a_bad_option(run: Callable[..., Ran], option: str, value: str, says: str) -> None:
    failed(run("explain", MODEL, CAT, option, value), says)


def test_cuda_is_refused_where_there_is_none(run: Callable[..., Ran]) -> None:
    if Path("/dev/nvidia0").exists():
        pytest.skip("this machine has an NVIDIA device")
    failed(run("explain", MODEL, CAT, "--device", "cuda"), "cuda", "auto")


# --- bad images -----------------------------------------------------------------------------------
def test_a_bad_image_does_not_lose_the_others(run: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "zero.jpg").write_bytes(b"")
    ran = run("explain", MODEL, "zero.jpg", "absent.png", CAT, "--method", "positive", "--json")
    assert ran.code == 2
    results = json.loads(ran.out)
    assert ["error" in r for r in results] == [True, True, False]
    assert Path(results[2]["picture"]).is_file()
    assert "zero.jpg" in ran.err
    assert "absent.png" in ran.err


def odd_images(folder: Path) -> dict[str, Path]:
    """Write the cat as every kind of file that real photo folders hold."""
    cat = Image.open(CAT).convert("RGB").resize((40, 40))
    grey = np.asarray(cat.convert("L"))
    made = {
        "cmyk.jpg": cat.convert("CMYK"),
        "palette.png": cat.convert("P"),
        "alpha.png": cat.convert("RGBA"),
        "grey.png": cat.convert("L"),
        "bilevel.png": cat.convert("1"),
        "deep.png": Image.fromarray(grey.astype(np.uint16) * 257),
    }
    for name, image in made.items():
        image.save(folder / name)
    cat.save(folder / "moving.gif", save_all=True, append_images=[cat.rotate(90)])
    return {name: folder / name for name in [*made, "moving.gif"]}


def test_every_kind_of_picture_is_read(run: Callable[..., Ran], tmp_path: Path) -> None:
    files = odd_images(tmp_path)
    ran = run("explain", MODEL, *files.values(), "--method", "positive", "--json")
    assert ran.code == 0, ran.err
    found = {Path(r["image"]).name: r["top"][0]["label"] for r in json.loads(ran.out)}
    colour = ("cmyk.jpg", "alpha.png", "palette.png", "moving.gif")
    assert {found[name] for name in colour} == {"cat"}, found
    assert len(found) == len(files)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.full((1, 3, 32, 32), np.nan, np.float32), "NaN"),
        (np.zeros((1, 4, 32, 32), np.float32), "[N, 3, 32, 32]"),
        (np.zeros((3, 31, 32), np.float32), "[N, 3, 32, 32]"),
        (np.zeros((1, 3, 32, 32), np.int64), "float32"),
    ],
)
def test_a_bad_array(run: Callable[..., Ran], tmp_path: Path, array: np.ndarray, says: str) -> None:
    np.save(tmp_path / "x.npy", array)
    failed(run("explain", MODEL, "x.npy"), "x.npy", says)


def test_a_model_without_pictures(run: Callable[..., Ran], tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["": 18]>
        g (float[N, 4] x) => (float[N, 4] y) { y = Tanh (x) }"""
    onnx.save(parser.parse_model(text), tmp_path / "table.onnx")
    failed(run("explain", "table.onnx", CAT, "--method", "gradient"), "picture")


def test_a_model_of_two_inputs(run: Callable[..., Ran], tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["": 18]>
        g (float[N, 3, 8, 8] image, float[N, 3, 8, 8] before) => (float[N, 3, 1, 1] y) {
        d = Sub (image, before)  r = Relu (d)  y = GlobalAveragePool (r) }"""
    onnx.save(parser.parse_model(text), tmp_path / "pair.onnx")
    failed(run("explain", "pair.onnx", CAT, "--method", "gradient"), "image, before")


def test_a_model_of_two_inputs_takes_a_file_of_both(
    run: Callable[..., Ran], tmp_path: Path
) -> None:
    model = ROOT / "tests" / "zoo" / "models" / "two_inputs.onnx"
    with np.load(model.with_suffix(".npz")) as stored:
        given = {name: stored[f"in.{name}"][:1] for name in ("image", "numbers")}
        logits = stored["out.logits"][0]
    np.savez(tmp_path / "both.npz", **given)
    ran = run("explain", model, "both.npz", "--method", "gradient,lift-cam,positive", "--json")
    (result,) = json.loads(ran.out)
    np.testing.assert_allclose(result["methods"][0]["score"], logits.max(), rtol=1e-5)
    assert Path(result["picture"]).is_file()
    np.save(tmp_path / "image.npy", given["image"])
    failed(run("explain", model, "image.npy"), "2 inputs: give an .npz file that holds image, numb")
    (tmp_path / "broken.npz").write_bytes(b"PK")
    failed(run("explain", model, "broken.npz"), "broken.npz: not a sound .npz file")
    failed(run("explain", model, "none.npz"), "none.npz: cannot be read: No such file")


# --- targets and tokens ------------------------------------------------------------------------------
def test_likeness_to_another_image(run: Callable[..., Ran], tmp_path: Path) -> None:
    """The unit vector of the other's embedding, which is its own most similar."""
    horse = CAT.parent / "horse.jpg"
    scores = {}
    for image in (CAT, horse):
        for target in (f"similar:{horse}", f"relu_fc2[similar:{horse}]"):
            ran = run("explain", MODEL, image, "--method", "gradient", "--target", target, "--json")
            (method,) = json.loads(ran.out)[0]["methods"]
            assert (method["label"], method["class"]) == ("similar to horse.jpg", -1)
            scores[image, target.split(":")[0]] = method["score"]
    assert scores[horse, "similar"] > 0 > scores[CAT, "similar"]
    assert scores[horse, "relu_fc2[similar"] > scores[CAT, "relu_fc2[similar"] > 0


def test_tokens_of_a_transformer(run: Callable[..., Ran], tmp_path: Path) -> None:
    model = ROOT / "tests" / "zoo" / "models" / "vit.onnx"
    with np.load(model.with_suffix(".npz")) as stored:
        np.save(tmp_path / "x.npy", stored["in.image"][:1])
    assert "17 x 8 (grid 4x4 + 1)" in run("inspect", model).out
    layers = json.loads(run("inspect", model, "--json").out)["layers"]
    (tokens,) = [layer for layer in layers if layer["name"] == "/Add_output_0"]
    assert (tokens["axes"], tokens["grid"]["before"]) == ("NTC", 1)
    ran = run("explain", model, "x.npy", "--method", "grad-cam", "--layer", "/Add_output_0")
    assert "at /Add_output_0 (4x4 after /patch/Conv_output_0, 1 token beside it)" in ran.out
    assert "not in the map: " in ran.out and "% of what the tokens contribute" in ran.out
    ran = run(
        "explain", model, "x.npy", "--method", "grad-cam,positive", "--layer", "/Add_output_0",
        "--grid", "2x8", "--json",
    )  # fmt: skip
    maps, pixels = json.loads(ran.out)[0]["methods"]
    assert (maps["grid"], pixels["grid"]) == ("2x8 as given, 1 token beside it", None)
    record = Record.load(tmp_path / "onnxplain-out", "x.grad_cam")
    assert record.values.shape == (1, 2, 8)  # type: ignore[attr-defined]


# --- writing --------------------------------------------------------------------------------------
def test_an_output_folder_that_is_a_file(run: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "out").write_text("in the way")
    failed(run("explain", MODEL, CAT, "--out", "out"), "cannot be written")


def command(*args: object, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "onnxplain", *map(str, args)],
        text=True,
        cwd=ROOT,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},  # type: ignore[call-overload]
    )


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    def limit() -> None:  # a write past this size fails, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    process = command(
        "explain", MODEL, CAT, "--method", "gradient", "--out", tmp_path, preexec_fn=limit
    )
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    assert "cannot be written" in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_keeps_whole_files_only(tmp_path: Path) -> None:
    process = command(
        "explain", MODEL, *[CAT] * 500, "--method", "positive", "--out", tmp_path,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in the background
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*.png")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.strip().splitlines()[-1].startswith("onnxplain: interrupted")
    names = {p.name for p in tmp_path.iterdir()}
    assert all(name.endswith((".png", ".json", ".npz")) for name in names)
    for name in names:
        if name.endswith(".png"):
            with Image.open(tmp_path / name) as picture:
                picture.load()


@pytest.mark.parametrize(
    ("arguments", "shows"),
    [
        (("explain", CAT, CAT.parent / "horse.jpg"), "explaining"),
        (("decompose", CAT), "decomposing"),
    ],
)
def test_a_bar_on_the_terminal_leaves_a_redirected_stdout_alone(
    arguments: tuple[object, ...], shows: str, tmp_path: Path
) -> None:
    terminal, side = pty.openpty()
    name, *images = arguments
    options = ("--out", tmp_path / "out")
    env = {**os.environ, "TERM": "xterm"}
    with command(name, MODEL, *images, *options, stderr=side, env=env) as process:
        os.close(side)
        drawn = b""
        with contextlib.suppress(OSError):  # how Linux tells that the other side has closed
            while some := os.read(terminal, 4096):
                drawn += some
        out, _ = process.communicate(timeout=60)
    os.close(terminal)
    assert process.returncode == 0
    assert shows.encode() in drawn and b"predicted" not in drawn
    assert out.count("predicted: ") == len(images)


def test_a_model_without_feature_maps_still_has_its_saliency(
    run: Callable[..., Ran], tmp_path: Path
) -> None:
    text = """<ir_version: 8, opset_import: ["": 18]>
        g (float[N, 3, 8, 8] x) => (float[N, 192] y) { f = Flatten (x)  y = Tanh (f) }"""
    onnx.save(parser.parse_model(text), tmp_path / "flat.onnx")
    ran = run("explain", "flat.onnx", CAT, "--json")
    assert ran.code == 0
    assert "lift-cam left out: this model has no feature maps" in ran.err
    assert [m["method"] for m in json.loads(ran.out)[0]["methods"]] == ["positive"]
    failed(run("explain", "flat.onnx", CAT, "--method", "lift-cam"), "no feature maps")


@pytest.mark.parametrize(
    ("shape", "methods"), [((4,), "gradient"), ((5, 8, 8), "gradient,positive")]
)
def test_arrays_are_explained_without_a_picture(
    run: Callable[..., Ran], tmp_path: Path, shape: tuple[int, ...], methods: str
) -> None:
    """A table, or a picture of five channels that a convolution reads: d tanh(x) = 1 - tanh(x)^2."""
    sizes = ", ".join(map(str, shape))
    head = f"g (float[N, {sizes}] x) => (float[N, {sizes}] y)"
    body = "y = Tanh (x)" if len(shape) == 1 else "c = Conv <group = 5> (x, w)  y = Tanh (c)"
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["": 18]> {head} {{ {body} }}')
    if len(shape) == 3:
        ones = np.ones((5, 1, 1, 1), np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(ones, "w"))
    onnx.save(model, tmp_path / "array.onnx")
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (1, *shape)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    ran = run("explain", "array.onnx", "x.npy", "--method", methods, "--out", "out", "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)[0]["picture"] is None
    assert not list((tmp_path / "out").glob("*.png"))
    found = Record.load(tmp_path / "out", "x.gradient").values  # type: ignore[attr-defined]
    expected = np.zeros_like(x)
    at = np.unravel_index(x.argmax(), x.shape)  # the largest output is explained
    expected[at] = 1 - np.tanh(x[at]) ** 2
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)

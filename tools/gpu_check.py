"""Check and time onnxplain on a CUDA device, in one command: parity with the CPU, then milliseconds.

    python -m tools.gpu_check                                   the bundled model and torchvision nets
    python -m tools.gpu_check --nets resnet50 --models a.onnx b.onnx --write docs/gpu.md

Parity: every method on the bundled model and `--models`, as the largest difference between the devices
relative to the largest value: smallest, median and largest over the images. A ReLU that takes another side
on another device moves a gradient of one image by some percent and of the next by nothing, so the smallest
tells whether the device computes the same. Averages over many gradients meet such a flip on every image.
TensorFloat-32 (`load(tf32=True)`, off by default) is printed beside it. Time: medians of `--rounds` runs
or of a second, after two warm-ups, input and results in host memory; and the first run. Needs CUDA 13 and
cuDNN 9 (PyTorch's are found).
"""

from __future__ import annotations

import argparse
import copy
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import onnxplain as ox
from onnxplain import bundled
from onnxplain.executor import runtime_version
from onnxplain.methods.registry import METHODS, explain

NETS = ("resnet50", "vgg16", "mobilenet_v2", "efficientnet_b0", "densenet121")
IMAGES = 6
AVERAGED = ("smooth_grad", "integrated_gradients")
SLOW = ("score_cam", "ablation_cam", "shap_cam")
"""Hundreds of forwards per image: compared on the bundled model alone."""
Time = tuple[float, float]
TREE = {"depth": 3, "min_share": 0.0, "min_root_share": 0.0, "inhibitors": 0}
LONG = 1.0
"""Seconds after which no further run is timed."""


def main() -> None:
    """Print both tables; write them where asked. Exit code 1 where no image of a method comes within 1e-5."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nets", default=",".join(NETS), help="torchvision nets, random weights")
    parser.add_argument("--models", nargs="*", type=Path, default=[], help="more files for parity")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", type=Path, help="also write the report here")
    args = parser.parse_args()
    lines: list[str] = []

    def say(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    worst = 0.0
    for line in heading():
        say(line)
    say("\n## The same numbers as on the CPU\n")
    say("| model | method | smallest | median | largest | median with TF32 |")
    say("| --- | --- | --- | --- | --- | --- |")
    for path in [bundled.model_path(), *args.models]:
        judged = not is_half(path)
        for name, errors, rough in parity(path):
            if judged and name not in AVERAGED:
                worst = max(worst, float(errors.min()))
            say(
                f"| {Path(path).name} | {name} | {errors.min():.1e} | {np.median(errors):.1e} "
                f"| {errors.max():.1e} | {np.median(rough):.1e} |"
            )
    say("\n## Milliseconds\n")
    say("| net | what | images | CPU | CUDA | first run | CUDA, TF32 | CPU / CUDA |")
    say("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for net in filter(None, args.nets.split(",")):
        for what, count, times in benchmark(net, args.rounds):
            (cpu, _), (cuda, first), (tf32, _) = times
            say(
                f"| {net} | {what} | {count} | {cpu:.1f} | {cuda:.1f} | {first:.0f} | {tf32:.1f} "
                f"| {cpu / cuda:.1f} |"
            )
    if args.write:
        args.write.write_text("\n".join(lines) + "\n", encoding="utf-8")
    raise SystemExit(worst > 1e-5)


def is_half(path: Path) -> bool:
    """Whether a file computes in float16, which the CPU widens to float32: there is nothing to judge."""
    model = ox.load(path, device="cpu")
    return model.as_stored() is not model


def heading() -> Iterator[str]:
    """Yield where this was measured."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    gpu = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    yield "# On a GPU\n"
    yield "Written by `python -m tools.gpu_check --write docs/gpu.md`.\n"
    yield f"- device: {gpu}; {platform.machine()}, Python {platform.python_version()}"
    yield f"- onnxruntime {runtime_version()}, onnxplain {ox.__version__}, NumPy {np.__version__}"
    providers = ox.load(bundled.model_path(), device="cuda").providers
    yield f"- providers really used: {', '.join(providers)}"


def parity(path: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield per method the relative differences [N] between the devices, in float32 and with TF32."""
    cpu, cuda = ox.load(path, device="cpu"), ox.load(path, device="cuda")
    rough = ox.load(path, device="cuda", tf32=True)
    x = pictures(cpu, IMAGES)
    for name in METHODS:
        if name in SLOW and path != bundled.model_path():
            continue
        try:
            expected = explain(cpu, x, name)
        except ox.OnnxplainError as error:
            print(f"{Path(path).name}: {name} does not apply: {error}")
            continue
        found = (explain(m, x, name, expected.classes) for m in (cuda, rough))
        yield (name, *(differences(f.values, expected.values) for f in found))
    for name, look in BESIDE.items():
        seen = [[look(m, x[i : i + 1]) for i in range(IMAGES)] for m in (cpu, cuda, rough)]
        yield (
            name,
            *(np.array([apart(*two) for two in zip(s, seen[0], strict=True)]) for s in seen[1:]),
        )


def apart(found: np.ndarray, expected: np.ndarray) -> float:
    """Return max |found - expected| / max |expected|."""
    return float(differences(found[None], expected[None])[0])


def tree_maps(model: ox.Model, x: np.ndarray) -> np.ndarray:
    """Return the contributions of every channel of the two top layers, as one vector."""
    h = ox.decompose(
        model, x, top_k=10_000, depth=1, min_share=0.0, inhibitors=10_000, pixels=False
    )
    return np.array([h[f"root/{k}"].contribution if f"root/{k}" in h else 0.0 for k in range(4096)])


def pixels(model: ox.Model, x: np.ndarray) -> np.ndarray:
    """Return what the pixels contribute to all leaves of the three top layers together."""
    h = ox.decompose(model, x, **TREE)
    return np.sum([leaf.pixels for leaf in h.leaves], axis=0)


def readings(model: ox.Model, x: np.ndarray) -> np.ndarray:
    """Return what the layers predict of an image shown where they respond (hybrid CNN-interpreter)."""
    return ox.layer_predictions(model, x, mode="masked").logits


def worth(model: ox.Model, x: np.ndarray) -> np.ndarray:
    """Return what the decision loses without each filter of the default layer, one by one."""
    found = ox.filter_importance(model, x, layers=[model.default_layer or ""])
    return found.layers[0].effect


BESIDE: dict[str, Callable[[ox.Model, np.ndarray], np.ndarray]] = {
    "decompose": tree_maps,
    "decompose, pixels": pixels,
    "layer_predictions": readings,
    "filter_importance": worth,
}
"""Methods whose results are no map."""


def differences(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return max |found - expected| / max |expected| per image [N]."""
    axes = tuple(range(1, expected.ndim))
    largest = np.abs(expected).max(axes)
    gap: np.ndarray = np.abs(found - expected).max(axes) / np.where(largest > 0, largest, 1)
    return gap


def pictures(model: ox.Model, count: int) -> np.ndarray:
    """Return real photos where the model takes the bundled ones, else smooth random pictures."""
    rng = np.random.default_rng(0)
    photos: list[Any] = list(bundled.photos())
    while len(photos) < count:
        coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8))
        photos.append(coarse.resize((320, 320), Image.Resampling.BICUBIC))
    return model.read(photos[:count])


def benchmark(net: str, rounds: int) -> Iterator[tuple[str, int, list[Time]]]:
    """Yield (what, images, times on the CPU, on CUDA, on CUDA with TF32)."""
    import torch

    from tools.parity.nets import classifier

    module = classifier(net, 224).module
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        image, batch = torch.zeros(2, 3, 224, 224), {"x": {0: "N"}, "z": {0: "N"}}
        torch.onnx.export(
            module, (image,), str(path), dynamo=False, input_names=["x"], output_names=["z"],
            dynamic_axes=batch,
        )  # fmt: skip
        models = [
            ox.load(path, device="cpu"),
            ox.load(path, device="cuda"),
            ox.load(path, device="cuda", tf32=True),
        ]
    images = np.random.default_rng(0).normal(size=(16, 3, 224, 224)).astype(np.float32)
    for what, count, run in jobs():
        x = images[:count]
        yield what, count, [timed(partial(run, m, x), rounds) for m in models]
    if torch.cuda.is_available():
        yield from beside(module, rounds)


def jobs() -> Iterator[tuple[str, int, Callable[[ox.Model, np.ndarray], object]]]:
    """Yield what is timed, and of how many images."""
    for count in (1, 16):
        yield (
            "forward",
            count,
            lambda m, x: m.values({m.graph.source.name: x}, (m.graph.logit.tensor,)),
        )
        for name in ("gradient", "lift_cam"):
            yield name, count, lambda m, x, name=name: explain(m, x, name, 3)
    for count in (1, 4):  # with 16 a CPU takes half a minute
        yield "active", count, lambda m, x: explain(m, x, "active")
    yield "smooth_grad", 1, lambda m, x: explain(m, x, "smooth_grad", 3)
    yield "decompose, 40 nodes", 1, lambda m, x: ox.decompose(m, x, pixels=False, **TREE)
    yield "its leaves' pixels too", 1, lambda m, x: ox.decompose(m, x, **TREE)


def beside(module: Any, rounds: int) -> Iterator[tuple[str, int, list[Time]]]:
    """Yield PyTorch's input gradient on the same devices, float32; the CPU's with all its cores."""
    import torch

    def gradient(device: str, x: Any, tf32: bool) -> None:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        at = x.detach().to(device).clone().requires_grad_()
        nets[device](at)[:, 3].sum().backward()
        at.grad.cpu().numpy()

    module.requires_grad_(False)
    nets = {"cpu": module, "cuda": copy.deepcopy(module).to("cuda")}
    sides = (("cpu", False), ("cuda", False), ("cuda", True))
    for count in (1, 16):
        x = torch.randn(count, 3, 224, 224)
        times = [timed(partial(gradient, device, x, tf32), rounds) for device, tf32 in sides]
        yield "gradient in PyTorch", count, times


def timed(run: Callable[[], object], rounds: int) -> Time:
    """Return the median time of `run` in ms, and that of its first run, which makes sessions and plans.

    The second run counts only where runs are long.
    """
    times: list[float] = []
    while len(times) < rounds + 2 and not (len(times) > 1 and sum(times[1:]) > LONG):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:] or times[1:]) * 1e3, times[0] * 1e3


if __name__ == "__main__":
    main()

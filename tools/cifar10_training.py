"""The CIFAR-10 network that ships with onnxplain: its data, its layers and its training loop."""

from __future__ import annotations

import io
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
SCALE = 1 / 255
HELD_OUT = 1000  # training images kept for the log; the test images decide nothing here
BATCH = 256
EPOCHS = 36
SEED = 0
CLASSES = ["airplane", "automobile", "bird", "cat", "deer"]
CLASSES += ["dog", "frog", "horse", "ship", "truck"]


def vgg(dropout: float = 0.3) -> nn.Sequential:
    """Return the network: six 3x3 convolutions, two hidden fully connected layers, ten logits.

    The two hidden layers make the head non-linear, so that LIFT-CAM is no closed form on it.
    Submodules carry the names that the layers have in the ONNX file.
    """
    layers: dict[str, nn.Module] = {}
    width = 3
    for stage, out in enumerate((32, 64, 128), 1):
        for i in (1, 2):
            layers[f"conv{stage}_{i}"] = nn.Conv2d(width, out, 3, padding=1, bias=False)
            layers[f"norm{stage}_{i}"] = nn.BatchNorm2d(out)
            layers[f"relu{stage}_{i}"] = nn.ReLU()
            width = out
        layers[f"pool{stage}"] = nn.MaxPool2d(2)
    layers |= {"flatten": nn.Flatten(), "fc1": nn.Linear(width * 4 * 4, 256)}
    layers |= {"relu_fc1": nn.ReLU(), "dropout": nn.Dropout(dropout)}
    layers |= {"fc2": nn.Linear(256, 128), "relu_fc2": nn.ReLU(), "logits": nn.Linear(128, 10)}
    return nn.Sequential(OrderedDict(layers))


def read_training_images(shared: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return (pixels uint8 [50000,32,32,3] RGB, labels int64 [50000])."""
    with np.load(shared / "data/images/cifar10_train_jpeg.npz", allow_pickle=False) as file:
        jpeg, offsets = file["jpeg"].tobytes(), file["offsets"].tolist()
        labels = file["labels"].astype(np.int64)
        assert file["classes"].tolist() == CLASSES
    pixels = np.empty((len(labels), 32, 32, 3), np.uint8)
    for i in range(len(labels)):
        pixels[i] = np.asarray(Image.open(io.BytesIO(jpeg[offsets[i] : offsets[i + 1]])))
    return pixels, labels


def read_test_images(shared: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return (pixels uint8 [483,32,32,3] RGB at their exact values, labels int64 [483])."""
    with np.load(shared / "data/images/cifar10_test_lossless.npz", allow_pickle=False) as file:
        return file["images"], file["labels"]


def normalise(pixels: np.ndarray) -> np.ndarray:
    """Return the network's input [N,3,32,32] float32 for RGB pixels [N,32,32,3] in 0..255."""
    x = (pixels.astype(np.float32) * np.float32(SCALE) - np.float32(MEAN)) / np.float32(STD)
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def augment(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Shift by up to 4 pixels, mirror, and vary the contrast of each image [N,3,32,32].

    Shifting also moves the JPEG block grid, and faint noise covers the detail that JPEG removed.
    """
    n = len(x)
    padded = nn.functional.pad(x, (4, 4, 4, 4), mode="reflect")
    top, left = torch.randint(0, 9, (2, n, 1), generator=rng)
    columns = left + torch.arange(32)
    mirror = torch.rand(n, 1, generator=rng) < 0.5
    columns = torch.where(mirror, columns.flip(1), columns)
    rows = top + torch.arange(32)
    image = torch.arange(n)[:, None, None]
    x = padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]]
    gain = 1 + 0.2 * (2 * torch.rand(n, 1, 1, 1, generator=rng) - 1)
    shift = 0.2 * (2 * torch.rand(n, 1, 1, 1, generator=rng) - 1)
    noise = 0.1 * torch.rand(n, 1, 1, 1, generator=rng) * torch.randn(x.shape, generator=rng)
    return (x * gain + shift + noise).permute(0, 3, 1, 2)  # channels_last in memory


@torch.no_grad()
def accuracy(net: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Return the share of images [N,3,32,32] that `net` gives their label, in eval mode."""
    net.eval()
    batches = zip(x.split(500), y.split(500), strict=True)
    hits = sum((net(a).argmax(1) == b).sum().item() for a, b in batches)
    return hits / len(y)


def train(shared: Path, checkpoint: Path) -> None:
    """Train for `EPOCHS`, going on from `checkpoint` if it exists; every epoch is saved there.

    Each epoch is seeded by its number, so a run that was stopped ends where an unbroken one does.
    """
    torch.manual_seed(SEED)
    pixels, labels = read_training_images(shared)
    order = torch.from_numpy(np.random.default_rng(SEED).permutation(len(labels)))
    x, y = torch.from_numpy(normalise(pixels))[order], torch.from_numpy(labels)[order]
    x_log, y_log, x, y = x[:HELD_OUT], y[:HELD_OUT], x[HELD_OUT:], y[HELD_OUT:]
    net = vgg().to(memory_format=torch.channels_last)
    sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    steps = len(y) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(sgd, 0.15, EPOCHS * steps, pct_start=0.25)
    parts = {"net": net, "sgd": sgd, "schedule": schedule}
    first = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        first = saved["epoch"]
        for name, part in parts.items():
            part.load_state_dict(saved[name])
    for epoch in range(first, EPOCHS):
        start = time.monotonic()
        loss = train_epoch(net, sgd, schedule, x, y, SEED * 1000 + epoch)
        state = {name: part.state_dict() for name, part in parts.items()}
        partial = checkpoint.with_suffix(".tmp")
        torch.save({"epoch": epoch + 1, **state}, partial)
        partial.replace(checkpoint)
        seen = accuracy(net, x_log, y_log)
        seconds = time.monotonic() - start
        print(f"epoch {epoch + 1}: loss {loss:.3f} held out {seen:.3f} {seconds:.0f} s", flush=True)


def trained(checkpoint: Path) -> nn.Sequential:
    """Return the network of a finished `checkpoint`, in eval mode."""
    saved = torch.load(checkpoint, weights_only=True)
    if saved["epoch"] < EPOCHS:
        raise SystemExit(f"{checkpoint}: {saved['epoch']} of {EPOCHS} epochs; run the step 'train'")
    net = vgg()
    net.load_state_dict(saved["net"])
    return net.eval()


def train_epoch(
    net: nn.Module,
    sgd: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    x: torch.Tensor,
    y: torch.Tensor,
    seed: int,
) -> float:
    """Go once over the images in random order; return the mean loss of the epoch."""
    torch.manual_seed(seed)  # dropout
    rng = torch.Generator().manual_seed(seed)
    net.train()
    total, steps = 0.0, len(y) // BATCH
    for batch in torch.randperm(len(y), generator=rng)[: steps * BATCH].split(BATCH):
        image = augment(x[batch], rng)
        with torch.autocast("cpu", torch.bfloat16):  # 2.3 times as fast as float32 on AVX512_BF16
            logits = net(image)
        loss = nn.functional.cross_entropy(logits.float(), y[batch], label_smoothing=0.05)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        schedule.step()
        total += loss.item()
    return total / steps

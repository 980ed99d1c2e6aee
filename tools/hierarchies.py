"""Are the channels that a hierarchy names the ones that matter? Measured on real models and images.

    python -m tools.hierarchies --write docs/hierarchy-results.md      (some minutes)
    python -m tools.hierarchies --files squeezenet --limit 20

For each image the tree of the predicted class (three layers, top 3, "path" seeds). Per level, with K = the
number of distinct channels that the tree holds in that layer:

- deletion: the drop of the class's logit when these K channels are set to 0, in percent of the logit's rise
  over the logit with all channels at 0; beside it the same for K random channels (mean of 5 draws), the K
  most active on average, the K of largest mean gradient and the K least active; and the share of images on
  which the tree's channels cost more than the random ones.
- keep: the logit with only those K channels left, on the same scale.
- edges: zeroing a node's children, how much of the node's own activation (where its evidence lies) is lost;
  and the same for as many random channels.
- noise: Jaccard of the tree's channels with those of the picture under Gaussian noise, 2 % of its spread.
- random weights: Jaccard with the tree of a copy whose weights are shuffled within each tensor.

Last, for the images that a model gets wrong: "why A rather than the true class B" is a tree of the contrast
z_A - z_B. Its three channels of the top layer are set to 0: is the answer then B?
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import onnxplain as ox
from onnxplain import bundled
from onnxplain.methods.chain import as_maps
from onnxplain.methods.maps import from_channels_first
from onnxplain.metrics import Answers
from onnxplain.metrics.channels import channel_effects
from tests.conftest import SHARED
from tests.real_models import REAL_MODELS, samples

Array = np.ndarray[Any, Any]
FILES = (
    "imagenet/squeezenet1_1_torchvision.onnx",
    "imagenet/mobilenet_v2_torchvision_float.onnx",
    "cifar10/resnet20.onnx",
    "cifar10/resnet56_dynamo.onnx",
)
RIVALS = ("tree", "random", "activation", "gradient", "least active")
DRAWS = 5
NOISE = 0.02
TREE: dict[str, Any] = {"depth": 3, "inhibitors": 0, "pixels": False}


@dataclass
class Measured:
    """What was measured of one layer of one model, an entry per image."""

    count: list[int] = field(default_factory=list)
    drop: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    keep: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    edge: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    noise: list[float] = field(default_factory=list)
    shuffled: list[float] = field(default_factory=list)


def main() -> None:
    """Print a table per model; write them where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", default="", help="parts of file names, by commas (all)")
    parser.add_argument("--limit", type=int, default=100, help="images per model")
    parser.add_argument("--write", type=Path, help="write the tables as Markdown")
    chosen = parser.parse_args()
    lines = [
        "# Do the named channels matter?\n",
        f"Written by `python -m tools.hierarchies --limit {chosen.limit} --write docs/hierarchy-results.md`; "
        "`tools/hierarchies.py` defines every column. Percent; drops and edges: higher is better.",
    ]
    print("\n".join(lines))
    wrong = []
    for name, model, x, labels, shuffled in subjects(chosen.files.split(","), chosen.limit):
        table = list(report(name, model, x, shuffled))
        wrong.append(diagnosis(name, model, x, labels))
        print("\n".join(table), flush=True)
        lines += table
    table = [
        "\n## Wrong answers, and the three channels that a contrast tree names\n",
        "| model | wrong | then right: tree's channels | then right: random channels | predicted margin - "
        "found margin, median |",
        "| --- | --- | --- | --- | --- |",
        *wrong,
    ]
    print("\n".join(table))
    lines += table
    if chosen.write:
        chosen.write.write_text("\n".join(lines) + "\n", encoding="utf-8")


def subjects(
    wanted: list[str], limit: int
) -> Iterator[tuple[str, ox.Model, list[Array], Array, ox.Model]]:
    """Yield name, model, images, their labels and the model with shuffled weights."""
    cifar = next(row for row in REAL_MODELS.values() if row.data == "cifar10")
    rows = [("vgg_cifar10.onnx (bundled)", bundled.model_path(), None, cifar.data)]
    rows += [
        (f, REAL_MODELS[f].path(SHARED), REAL_MODELS[f].pre, REAL_MODELS[f].data) for f in FILES
    ]
    for name, path, pre, data in rows:
        if not any(part in name for part in wanted):
            continue
        model = ox.load(path, device="cpu", preprocess=pre)
        pictures, labels = samples(data, SHARED, limit)
        x = [model.read([p]) for p in pictures]
        yield name, model, x, labels, model.shuffled()


def report(name: str, model: ox.Model, x: list[Array], shuffled: ox.Model) -> Iterator[str]:
    """Yield the lines of one model's table."""
    found: dict[str, Measured] = defaultdict(Measured)
    rng = np.random.default_rng(0)
    for image in x:
        tree = ox.decompose(model, image, **TREE)
        target = tree.root.channel
        std = float(image.std())
        noisy = image + rng.normal(0, NOISE * std, image.shape).astype(image.dtype)
        others = (
            ox.decompose(model, noisy, target, **TREE),
            ox.decompose(shuffled, image, target, **TREE),
        )
        for level, layer in enumerate(tree.layers, 1):
            if tree.level(level):
                at = found[layer]
                delete(model, image, tree, level, at, rng)
                edges(model, image, tree, level, at, rng)
                at.noise.append(jaccard(tree, others[0], level))
                at.shuffled.append(jaccard(tree, others[1], level))
    yield f"\n## {name}, {len(x)} images\n"
    yield (
        "| layer | K | tree | random | most active | gradient | least active | tree > random | keep: tree | "
        "keep: random | edge: children | edge: random | noise, J | shuffled, J |"
    )
    yield "|" + " --- |" * 14
    for layer, m in found.items():
        drops = " | ".join(percent(m.drop[rival]) for rival in RIVALS)
        beats = np.mean(np.array(m.drop["tree"]) > np.array(m.drop["random"]))
        last = (m.keep["tree"], m.keep["random"], m.edge["tree"], m.edge["random"])
        yield (
            f"| {layer.replace('|', '')} | {np.mean(m.count):.1f} | {drops} | {beats:.0%} | "
            + " | ".join(percent(v) for v in last)
            + f" | {np.mean(m.noise):.2f} | {np.mean(m.shuffled):.2f} |"
        )


def percent(values: list[float]) -> str:
    """Return the median in percent: a mean would be ruled by images whose logit hardly rises."""
    return f"{100 * np.median(values):.0f}" if values else "-"


def delete(
    model: ox.Model, x: Array, tree: ox.Hierarchy, level: int, into: Measured, rng: Any
) -> None:
    """Measure deletion and keeping of a level's channels against their rivals, in one run of the rest."""
    layer = model.layer(tree.layers[level - 1])
    value = model.values({model.graph.source.name: x}, (layer.name,))[layer.name]
    a = as_maps(value, layer)[0]
    g = as_maps(ox.gradient(model, x, tree.root.channel, wrt=layer).values, layer)[0]
    channels = sorted({n.channel for n in tree.level(level)})
    k, active = len(channels), a.mean((1, 2))
    sets = [channels, *(rng.permutation(len(a))[:k] for _ in range(DRAWS))]
    sets += [np.argsort(-active)[:k], np.argsort(-g.mean((1, 2)))[:k], np.argsort(active)[:k]]
    drop, keep = (
        v[0] for v in channel_effects(Answers(model, x, tree.root.channel), layer, [sets])
    )
    into.count.append(k)
    for name, part in zip(RIVALS, (0, slice(1, 1 + DRAWS), -3, -2, -1), strict=True):
        into.drop[name].append(float(np.mean(drop[part])))
        into.keep[name].append(float(np.mean(keep[part])))


def edges(
    model: ox.Model, x: Array, tree: ox.Hierarchy, level: int, into: Measured, rng: Any
) -> None:
    """Measure what the nodes of a level lose when their children are set to 0, in one run."""
    parents = [n for n in tree.level(level) if tree.children(n.id)]
    if not parents:
        return
    upper, lower = (model.layer(tree.layers[i]) for i in (level - 1, level))
    value = model.values({model.graph.source.name: x}, (lower.name,))[lower.name]
    a = as_maps(value, lower)[0]
    rows = [a]
    for parent in parents:
        children = [c.channel for c in tree.children(parent.id)]
        for chosen in (children, rng.permutation(len(a))[: len(children)]):
            rows.append(a.copy())
            rows[-1][chosen] = 0
    batch = from_channels_first(np.stack(rows), lower)
    tail = model.program((upper.name,), (lower.name,)).tail
    found = as_maps(tail({lower.name: batch})[upper.name], upper)
    for i, parent in enumerate(parents):
        where = parent.map > 0
        whole, ours, theirs = (
            found[j, parent.channel][where].sum() for j in (0, 2 * i + 1, 2 * i + 2)
        )
        into.edge["tree"].append(float(1 - ours / whole))
        into.edge["random"].append(float(1 - theirs / whole))


def diagnosis(name: str, model: ox.Model, x: list[Array], labels: Array) -> str:
    """Return a row: of the wrong answers, how many turn right without the channels of the contrast tree.

    Only where the truth is among the first five: further down three channels cannot be the reason.
    """
    rng, output, right, rivals, gaps = (
        np.random.default_rng(0),
        model.graph.logit.tensor,
        [],
        [],
        [],
    )
    for image, truth in zip(x, labels.tolist(), strict=True):
        top = [r.class_index for r in model.predict(image).top(5)[0]]
        if truth == top[0] or truth not in top:
            continue
        contrast = ox.Target.contrast(top[0], truth)
        tree = ox.decompose(model, image, contrast, **(TREE | {"depth": 1}))
        layer = model.layer(tree.layers[0])
        value = model.values({model.graph.source.name: image}, (layer.name,))[layer.name]
        a = as_maps(value, layer)[0]
        channels = [n.channel for n in tree.level(1)]
        rows = np.repeat(a[None], 1 + DRAWS, 0)
        for row, chosen in enumerate(
            [channels, *(rng.permutation(len(a))[: len(channels)] for _ in range(DRAWS))]
        ):
            rows[row, chosen] = 0
        tail = model.program((output,), (layer.name,)).tail
        z = tail({layer.name: from_channels_first(rows, layer)})[output]
        right.append(z[0].argmax() == truth)
        rivals.append(np.mean(z[1:].argmax(1) == truth))
        predicted = tree.root.decision - sum(n.contribution for n in tree.level(1))
        gaps.append(abs(predicted - float(z[0, top[0]] - z[0, truth])))
    if not right:
        return f"| {name} | 0 | - | - | - |"
    return f"| {name} | {len(right)} | {np.mean(right):.0%} | {np.mean(rivals):.0%} | {np.median(gaps):.2g} |"


def jaccard(a: ox.Hierarchy, b: ox.Hierarchy, level: int) -> float:
    """Return the Jaccard index of the channels of one level."""
    ours, theirs = ({n.channel for n in h.level(level)} for h in (a, b))
    return len(ours & theirs) / len(ours | theirs)


if __name__ == "__main__":
    main()

"""gAP: how a hierarchy of supporting features grows, level by level, from a decision.

Cheng et al., "Deeply Explain CNN via Hierarchical Decomposition", IJCV 2023 (arXiv 2201.09205): any
intermediate decision is decomposed by gradient-based activation propagation (gAP) to the layer below, whose
most important channels are the next decisions. The formulas are ours; docs/hierarchy.md tells them apart.

Notation: a decision D = <S, A_upper> with a constant seed S. G = J^T S is its gradient at the layer below
(one vector-Jacobian product, linearised at the image's own activations); M_k = G_k A_k is the activation map
of channel k, C_k = sum M_k its contribution, B = D - sum_k C_k the residual: biases, and curvature.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Literal, get_args

import numpy as np

from onnxplain.errors import ConfigError
from onnxplain.executor import Array
from onnxplain.graph.compute import NUMPY
from onnxplain.hierarchy import HEdge, Hierarchy, HNode
from onnxplain.hierarchy.hierarchy import ROOT
from onnxplain.methods.chain import Chain, Pulled, Weigh
from onnxplain.methods.common import Job, label, whole
from onnxplain.preprocess import picture
from onnxplain.program import Planted

Seed = Literal["path", "root", "max", "sum"]
Weight = Literal["signed", "positive", "mean"]

WEIGHTS: dict[Weight, Weigh] = {
    "signed": lambda op, g, positions: g,
    "positive": lambda op, g, positions: op.Relu(g),
    "mean": lambda op, g, positions: op.ReduceMean(g, positions, keepdims=1) if positions else g,
}
"""What weighs the activations, from the gradient G."""


@dataclass(frozen=True)
class Rules:
    """How nodes become seeds and which channels become children; see `decompose`."""

    seed: Seed
    weight: Weight
    top_k: int
    min_share: float
    min_root_share: float
    max_nodes: int
    inhibitors: int

    def __post_init__(self) -> None:
        for name, kinds in (("seed", get_args(Seed)), ("weight", get_args(Weight))):
            if getattr(self, name) not in kinds:
                raise ConfigError(
                    f"{name} {getattr(self, name)!r} is unknown: choose {', '.join(kinds)}"
                )
        for name, least in (("top_k", 1), ("max_nodes", 1), ("inhibitors", 0)):
            if not whole(getattr(self, name), least):
                raise ConfigError(
                    f"{name} = {getattr(self, name)!r} must be a whole number, {least} or more"
                )
        for name in ("min_share", "min_root_share"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value <= 1:
                raise ConfigError(f"{name} = {value!r} must be a number in 0..1")


@dataclass(frozen=True)
class _Link:
    """A channel of the level below that supports or inhibits a node."""

    parent: str
    child: str
    row: int
    channel: int
    contribution: float
    share: float
    signed: float


class Growing:
    """A hierarchy while its levels are added, from the decision down."""

    def __init__(self, chain: Chain, rules: Rules) -> None:
        self.chain, self.rules = chain, rules
        seeds = chain.seeds
        decision = float(seeds.scores[0])
        root = HNode(
            id=ROOT, level=0, layer=chain.job.output, channel=int(seeds.classes[0]), decision=decision,
            contribution=decision, share=1.0, signed=1.0, root_share=1.0,
        )  # fmt: skip
        self.nodes = {ROOT: root}
        self.edges: list[HEdge] = []
        # A supporting node's seed is its channel's plane [h, w]; all else is 0.
        self._planes: dict[str, Array] = {}
        self._from_root: Array | Pulled = (
            seeds.seed
        )  # the root's gradient at the level just reached

    def descend(self, level: int) -> None:
        """Decompose the nodes of the level above into channels of this one, by one batched backward."""
        parents = [n for n in self.nodes.values() if n.level == level - 1 and self._expands(n)]
        if not parents:
            return
        weight = WEIGHTS[self.rules.weight]
        seeds = self.chain.seeds.seed if level == 1 else self._seeds(level - 1, parents)
        pulled = explaining = self.chain.pull(level - 1, seeds, weight)
        if self.rules.seed == "root":
            if level > 1:
                explaining = self.chain.pull(level - 1, self._from_root)
            self._from_root = explaining
        contributions = pulled.contributions
        assert contributions is not None
        links = [
            link
            for row, parent in enumerate(parents)
            for link in self._links(parent, row, level, contributions[row])
        ]
        links = self._within_max_nodes(links)
        for row, parent in enumerate(parents):
            kept = [x.share for x in links if x.row == row and x.contribution > 0]
            residual = parent.decision - float(contributions[row].sum())
            self.nodes[parent.id] = replace(parent, residual=residual, coverage=float(sum(kept)))
        if links:
            self._add(level, links, explaining)

    def attribute_leaves(self) -> None:
        """Pull every leaf's decision down to the input, those of one level together."""
        found = self.hierarchy().leaves
        bottom = len(self.chain.layers)
        for level in range(1, bottom + 1):
            leaves = [n for n in found if n.level == level]
            if not leaves:
                continue
            seeds: Planted | Pulled = self._seeds(level, leaves)
            for below in range(level, bottom):
                seeds = self.chain.pull(below, seeds)
            for leaf, pixels in zip(leaves, self.chain.pixels(seeds), strict=True):
                self.nodes[leaf.id] = replace(self.nodes[leaf.id], pixels=pixels)

    def hierarchy(self) -> Hierarchy:
        """Return the hierarchy as it has grown."""
        chain, job = self.chain, self.chain.job
        meta = job.model.meta(
            "decompose",
            **asdict(self.rules),
            target=str(job.target),
            explained=job.output,
            label=label(job.model, self.nodes[ROOT].channel, job.words),
            layers=[layer.name for layer in chain.layers],
            shapes=[list(chain.activation(i + 1).shape) for i in range(len(chain.layers))],
            rules="gradient",
            inexact=chain.inexact,
            providers=list(chain.providers),
            paper="Cheng et al., IJCV 2023, arXiv 2201.09205; formulas ours",
        )
        return Hierarchy.of(list(self.nodes.values()), self.edges, meta, _picture(job))

    def _expands(self, node: HNode) -> bool:
        supports = node.level == 0 or node.id in self._planes
        return supports and node.root_share >= self.rules.min_root_share

    def _seeds(self, level: int, nodes: list[HNode]) -> Planted:
        """Return the seeds of nodes of one level."""
        planes = [self._planes[n.id] for n in nodes]
        return self.chain.planted(level, planes, [n.channel for n in nodes])

    def _links(self, parent: HNode, row: int, level: int, c: Array) -> list[_Link]:
        """Return the children of a node, strongest first, then its inhibitors."""
        rules = self.rules
        positive, size = np.maximum(c, 0), float(np.abs(c).sum()) or 1.0
        share = positive / (positive.sum() or 1.0)
        best = np.argsort(-c, kind="stable")[: rules.top_k].tolist()
        worst = np.argsort(c, kind="stable")[: rules.inhibitors].tolist()
        supporting = [k for k in best if c[k] > 0 and share[k] >= rules.min_share]
        place = str(level) if rules.seed == "root" else parent.id
        return [
            _Link(
                parent.id, f"{place}/{k}", row, k, float(c[k]), float(share[k]), float(c[k] / size)
            )
            for k in [*supporting, *(k for k in worst if c[k] < 0)]
        ]

    def _within_max_nodes(self, links: list[_Link]) -> list[_Link]:
        """Drop the children of smallest contribution where there are too many; inhibitors are not counted."""
        totals: dict[str, float] = {}
        for link in links:
            if link.contribution > 0:
                totals[link.child] = totals.get(link.child, 0.0) + link.contribution
        room = max(self.rules.max_nodes - 1 - len(self._planes), 0)
        kept = set(sorted(totals, key=lambda name: -totals[name])[:room])
        return [x for x in links if x.contribution < 0 or x.child in kept]

    def _add(self, level: int, links: list[_Link], pulled: Pulled) -> None:
        """Add the nodes of a level, strongest first, and their edges.

        pulled: the gradients of what the nodes explain: of their parents, or of the root.
        """
        by_child: dict[str, list[_Link]] = {}
        for link in links:
            by_child.setdefault(link.child, []).append(link)
        groups = list(by_child.values())
        rows = [0 if self.rules.seed == "root" else group[0].row for group in groups]
        channels = [group[0].channel for group in groups]
        gradients = pulled.planes(rows, channels)
        weights = WEIGHTS[self.rules.weight](NUMPY, gradients, (1, 2))
        maps = weights * self.chain.activation(level)[channels]
        found = []
        for group, gradient, shown in zip(groups, gradients, maps, strict=True):
            node, plane = self._node(level, group, gradient, shown)
            found.append(node)
            if any(x.contribution > 0 for x in group):
                self._planes[node.id] = plane
        found.sort(key=lambda n: -n.contribution)
        self.nodes.update({n.id: n for n in self._with_boxes(level, found)})
        self.edges += [
            HEdge(
                parent=x.parent,
                child=x.child,
                contribution=x.contribution,
                share=x.share,
                signed=x.signed,
            )
            for x in links
        ]

    def _node(
        self, level: int, links: list[_Link], gradient: Array, shown: Array
    ) -> tuple[HNode, Array]:
        """Return a node and its seed's plane, from its links, and its channel's gradient and map [h, w]."""
        strongest = max(links, key=lambda x: abs(x.contribution))
        k, contribution = strongest.channel, sum(x.contribution for x in links)
        a = self.chain.activation(level)[k]
        flat = int((shown if contribution > 0 else -shown).argmax())
        peak = (flat // shown.shape[1], flat % shown.shape[1])
        plane = {"path": gradient, "root": gradient, "sum": np.ones_like(a)}.get(self.rules.seed)
        if plane is None:
            plane = np.zeros_like(a)
            plane[peak] = 1
        node = HNode(
            id=strongest.child,
            level=level,
            layer=self.chain.layers[level - 1].name,
            channel=k,
            decision=float((plane * a).sum(dtype=np.float64)),
            contribution=contribution,
            share=strongest.share,
            signed=strongest.signed,
            root_share=sum(x.share * self.nodes[x.parent].root_share for x in links),
            peak=peak,
            map=shown.copy(),
        )
        return node, plane.copy()

    def _with_boxes(self, level: int, nodes: list[HNode]) -> list[HNode]:
        """Add to each node the receptive field of its peak."""
        fields = self.chain.job.model.graph.receptive_fields(self.chain.layers[level - 1])
        if fields is None or not nodes:
            return nodes
        boxes = fields.boxes(np.array([n.peak for n in nodes])).tolist()
        return [replace(n, box=tuple(box)) for n, box in zip(nodes, boxes, strict=True)]


def _picture(job: Job) -> Array | None:
    """Return the picture as the model sees it, uint8 [H, W, 3]; None for an input that is no picture."""
    if not job.model.spec.is_picture or job.source != job.model.graph.source.name:
        return None
    shown: Array = picture(job.feeds[job.source], job.model.spec, job.model.preprocess)[0]
    return shown

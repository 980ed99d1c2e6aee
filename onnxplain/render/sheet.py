"""A whole hierarchy as one picture: the decision at the left, a column per layer, lines for what flows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from onnxplain.hierarchy import HEdge, Hierarchy, HNode
from onnxplain.render.evidence import evidence
from onnxplain.render.text import Line, wrap

INK, GREY, FOR, AGAINST = "#1a1a1a", "#666666", "#e3a15a", "#6a9fd8"
MARGIN, LINKS, SPACE = 24, 100, 12  # around the sheet; between columns for the lines; between tiles
HEADER, TEXT = 22, 13  # font sizes
BESIDE = 96  # for the words beside a tile
ROOT_SIDE, SIDES = 224, (64, 144)  # of a tile, pixels; the fewer in a column the larger
TALL = 1200  # pixels: up to here a column grows rather than that its tiles shrink
NARROW = 720  # least width of the sheet
STRONG = 14  # width of a level's strongest line, pixels
_FINER = 3  # lines are drawn this much larger and scaled down, so that they are smooth
_FOOT = (
    "Crop: what the unit at the feature's peak can see. Heat: where the feature contributes. "
    "Percent: share of the positive evidence for its parent. Blue: evidence against."
)


@dataclass(frozen=True)
class _Layout:
    """Where the tiles are, in pixels: each level's left edge and side, each node's middle."""

    lefts: tuple[int, ...]
    sides: tuple[int, ...]
    middles: dict[str, float]

    def out(self, node: HNode) -> tuple[float, float]:
        """Return where the lines to the children start: behind the words."""
        beside = BESIDE if node.level else 0
        right = self.lefts[node.level] + self.sides[node.level] + beside
        return right, self.middles[node.id]

    @property
    def width(self) -> int:
        """The right edge of the last column's words."""
        return self.lefts[-1] + self.sides[-1] + (BESIDE if len(self.lefts) > 1 else 0)


def sheet(hierarchy: Hierarchy) -> Image.Image:
    """Draw a hierarchy, as an RGB picture that grows with it.

    Beside every tile the channel, its share of its parent's positive evidence and its contribution. Blue is
    evidence against. The width of a line is the contribution, relative to the largest of its level.
    """
    layout = _laid_out(hierarchy)
    width = max(layout.width + MARGIN, NARROW)
    head = [(w, HEADER, INK) for w in wrap(_title(hierarchy), HEADER, width - 2 * MARGIN, 2)]
    head += [(w, TEXT, GREY) for w in wrap(_facts(hierarchy), TEXT, width - 2 * MARGIN, 2)]
    foot = wrap(_FOOT, TEXT, width - 2 * MARGIN)
    above = MARGIN + sum(size + 10 for _, size, _ in head) + 8
    tree = _tree(hierarchy, layout, width)
    below = above + tree.height + MARGIN
    page = Image.new("RGB", (width, below + len(foot) * (TEXT + 6) + MARGIN), "white")
    page.paste(tree, (0, above))
    y = MARGIN
    for line, size, colour in head:
        line.draw(page, MARGIN, y, colour)
        y += size + 10
    for i, line in enumerate(foot):
        line.draw(page, MARGIN, below + i * (TEXT + 6), GREY)
    return page


def _title(hierarchy: Hierarchy) -> str:
    label = hierarchy.meta.get("label") or "this decision"
    return f"Why {label}? Score {hierarchy.root.decision:.4g}"


def _facts(hierarchy: Hierarchy) -> str:
    root, meta = hierarchy.root, hierarchy.meta
    facts = [str(meta["model"])] if "model" in meta else []
    facts += [f"{key}: {meta[key]}" for key in ("seed", "weight") if key in meta]
    if root.coverage is not None and root.residual is not None:
        facts.append(f"first column: {root.coverage:.0%} of the positive evidence")
        facts.append(f"residual {root.residual:+.3g}")
    return "; ".join(facts)


# --- where --------------------------------------------------------------------------------------------
def _laid_out(hierarchy: Hierarchy) -> _Layout:
    """Place every node beside the middle of its children, or below its neighbour where that is lower."""
    levels = [nodes for i in range(len(hierarchy.layers) + 1) if (nodes := hierarchy.level(i))]
    fullest = max(map(len, levels))
    height = max(TALL, fullest * (SIDES[0] + SPACE))
    sides = [ROOT_SIDE, *(int(np.clip(height / len(n) - SPACE, *SIDES)) for n in levels[1:])]
    lefts = [MARGIN]
    for level in range(1, len(levels)):
        lefts.append(lefts[-1] + sides[level - 1] + (BESIDE if level > 1 else 0) + LINKS)
    ends = [0.0, *[2.0 * (TEXT + 6) + 6] * (len(levels) - 1)]  # below the columns' heads
    middles: dict[str, float] = {}

    def place(node: HNode) -> None:
        children = hierarchy.children(node.id)
        for child in children:
            if child.id not in middles:
                place(child)
        wanted = float(np.mean([middles[c.id] for c in children])) if children else 0.0
        half = sides[node.level] / 2
        middles[node.id] = max(wanted, ends[node.level] + half)
        ends[node.level] = middles[node.id] + half + SPACE

    place(hierarchy.root)
    return _Layout(tuple(lefts), tuple(sides), middles)


# --- drawing ------------------------------------------------------------------------------------------
def _tree(hierarchy: Hierarchy, layout: _Layout, width: int) -> Image.Image:
    """Draw lines, tiles and the columns' heads."""
    height = max(layout.middles[n.id] + layout.sides[n.level] / 2 for n in hierarchy)
    page = Image.new("RGB", (width, round(height) + 3), "white")
    _draw_links(page, hierarchy, layout)
    for level in range(1, len(layout.lefts)):
        _draw_head(page, hierarchy, level, layout)
    for node in hierarchy:
        _draw_node(page, hierarchy, node, layout)
    return page


def _draw_links(page: Image.Image, hierarchy: Hierarchy, layout: _Layout) -> None:
    """Draw the lines, thin ones over thick ones."""
    large = Image.new("RGB", (_FINER * page.width, _FINER * page.height), "white")
    draw = ImageDraw.Draw(large)
    strongest: dict[int, float] = {}
    edges = [(hierarchy[e.parent], hierarchy[e.child], e) for e in hierarchy.edges]
    for _, child, edge in edges:
        strongest[child.level] = max(strongest.get(child.level, 0), abs(edge.contribution))
    for parent, child, edge in sorted(edges, key=lambda link: -abs(link[2].contribution)):
        width = STRONG * abs(edge.contribution) / (strongest[child.level] or 1)
        end = (layout.lefts[child.level], layout.middles[child.id])
        _draw_band(draw, layout.out(parent), end, max(width, 1), edge)
    page.paste(large.reduce(_FINER))


def _draw_band(
    draw: ImageDraw.ImageDraw,
    start: tuple[float, float],
    end: tuple[float, float],
    width: float,
    edge: HEdge,
) -> None:
    """Draw a band of even width that leaves and arrives level."""
    t = np.linspace(0, 1, 40)
    line = np.stack([t, t * t * (3 - 2 * t)], 1) * np.subtract(end, start) + start
    along = np.gradient(line, axis=0)
    across = along[:, ::-1] * (-1, 1) / np.linalg.norm(along, axis=1, keepdims=True) * width / 2
    outline = np.concatenate([line + across, (line - across)[::-1]]) * _FINER
    colour = AGAINST if edge.contribution < 0 else FOR
    draw.polygon([(x, y) for x, y in outline.tolist()], colour)


def _draw_head(page: Image.Image, hierarchy: Hierarchy, level: int, layout: _Layout) -> None:
    """Write a column's head: the layer, cut where it is long, and its size."""
    x = layout.lefts[level]
    last = level == len(layout.lefts) - 1
    width = (page.width - MARGIN if last else layout.lefts[level + 1] - 16) - x
    Line(_short(hierarchy.layers[level - 1], width), TEXT, width).draw(page, x, 0, INK)
    channels, *size = hierarchy.meta["shapes"][level - 1]
    what = f"{channels} channels of {' x '.join(map(str, size))}"
    Line(what, TEXT, width).draw(page, x, TEXT + 6, GREY)


def _short(name: str, width: float) -> str:
    """Cut a long name in the middle: both ends of a layer's name tell."""
    if Line(name, TEXT, width).text == name:
        return name
    cuts = (f"{name[:n]}...{name[-n:]}" for n in range(min(len(name) // 2, 60), 0, -1))
    return next((cut for cut in cuts if Line(cut, TEXT, width).text == cut), name)


def _draw_node(page: Image.Image, hierarchy: Hierarchy, node: HNode, layout: _Layout) -> None:
    x, side, middle = layout.lefts[node.level], layout.sides[node.level], layout.middles[node.id]
    tile = evidence(hierarchy, node, side)
    left, top = x, round(middle - tile.height / 2)
    frame = (left - 2, top - 2, left + tile.width + 1, top + tile.height + 1)
    ImageDraw.Draw(page).rectangle(frame, AGAINST if node.inhibits else FOR)
    page.paste(tile, (left, top))
    if node.level == 0:
        return
    words = [f"channel {node.channel}", f"{node.contribution:+.3g}"]
    if not node.inhibits:
        words.insert(1, f"{node.share:.0%}")
    y = middle - len(words) * (TEXT + 5) / 2
    for i, text in enumerate(words):
        ink = GREY if i == len(words) - 1 else INK
        Line(text, TEXT, BESIDE - 12).draw(page, x + side + 8, y + i * (TEXT + 5), ink)

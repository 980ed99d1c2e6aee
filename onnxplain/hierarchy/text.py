"""A hierarchy as lines of text, for terminals."""

from __future__ import annotations

from onnxplain.hierarchy.hierarchy import ROOT, HEdge, Hierarchy, HNode
from onnxplain.hierarchy.names import short, visible

LONGEST = 48
"""Characters that a layer's or class's name may take."""


def text(hierarchy: Hierarchy, inhibitors: bool = True, depth: int | None = None) -> list[str]:
    """Return one line per node, children below their parent, the strongest first.

    A line holds layer, channel, contribution to the parent and share among its siblings; where children are
    shown, "rest" is what they leave of the parent's decision: other channels and the residual. In a DAG a
    node's children are listed once.

    depth: only so many levels below the root.

    Example of a line: `├─ layer4 ch 417  +1.9  (26 %)`.
    """
    root = hierarchy.root
    name = short(visible(str(hierarchy.meta.get("label"))), LONGEST)
    lines = [f"{name}  {root.decision:.4g}  ({short(visible(root.layer), LONGEST)})"]
    listed = {ROOT}
    # Not recursive: a file may hold a chain of any length. Each entry: indentation, whether last, what.
    stack = _entries(hierarchy, ROOT, "", inhibitors, depth)
    while stack:
        indent, last, what = stack.pop()
        branch = "└─ " if last else "├─ "
        if isinstance(what, str):
            lines.append(f"{indent}{branch}{what}")
            continue
        again = what.child in listed and hierarchy.graph.out_degree(what.child) > 0
        line = _line(hierarchy[what.child], what)
        lines.append(f"{indent}{branch}{line}{'  (see above)' if again else ''}")
        if not again:
            listed.add(what.child)
            deeper = indent + ("   " if last else "│  ")
            stack += _entries(hierarchy, what.child, deeper, inhibitors, depth)
    return lines


def _entries(
    hierarchy: Hierarchy, node: str, indent: str, inhibitors: bool, depth: int | None
) -> list[tuple[str, bool, HEdge | str]]:
    """Return what stands below a node, the last line first."""
    parent = hierarchy[node]
    if depth is not None and parent.level >= depth:
        return []
    out = hierarchy.graph.out_edges(node, data=True)
    edges = [HEdge(parent=node, child=child, **data) for _, child, data in out]
    shown: list[HEdge | str] = [e for e in edges if inhibitors or e.contribution > 0]
    if shown:
        rest = parent.decision - sum(e.contribution for e in shown if isinstance(e, HEdge))
        shown.append(f"rest  {rest:+.4g}")
    return [(indent, i == len(shown) - 1, what) for i, what in enumerate(shown)][::-1]


def _line(node: HNode, edge: HEdge) -> str:
    share = f"({edge.share:.0%})" if edge.contribution > 0 else "(inhibits)"
    name = short(visible(node.layer), LONGEST)
    return f"{name} ch {node.channel}  {edge.contribution:+.4g}  {share}"

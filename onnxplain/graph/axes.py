"""The role of each axis of a tensor, and the tokens of a transformer: which of them are patches, and where.

Followed from the input and from convolutions. A feature map that is flattened becomes tokens, one per
position; class and register tokens may be put before or after them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import onnx_graphsurgeon as gs

from onnxplain.graph.paths import differentiable_edges

Axes = str
"""The role of each axis of a tensor, e.g. "NCHW", "NHWC" ("D" before "H" in three dimensions) or "NTC"."""

MOST_OTHERS = 8
"""Tokens beside the patches (class, distillation, registers); more are taken for something else."""

_SPATIAL_NAMES = {1: "W", 2: "HW", 3: "DHW"}
# Ops that fix their input and output to channels-first.
_CHANNELS_FIRST = {
    "Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool",
    "GlobalLpPool", "BatchNormalization", "InstanceNormalization", "GroupNormalization", "LRN",
    "DepthToSpace", "SpaceToDepth",
}  # fmt: skip
_RELABELLING = {"Flatten", "Squeeze", "Unsqueeze", "Gather", "Einsum"}
_ROWS_OF_FIRST = {"MatMul", "Attention"}  # row i of the result belongs to row i of the first input


@dataclass(frozen=True)
class Grid:
    """How tokens lie in the picture: `height` x `width` patches, row by row, other tokens around them.

    `before` and `after` count the other tokens; `source` is the feature map that was flattened, None
    where a user declared the grid.
    """

    height: int
    width: int
    before: int = 0
    after: int = 0
    source: str | None = None

    @property
    def patches(self) -> range:
        """The tokens that are patches."""
        return range(self.before, self.before + self.height * self.width)

    @property
    def others(self) -> int:
        """Number of tokens that are not patches."""
        return self.before + self.after

    @property
    def tokens(self) -> int:
        """Number of all tokens."""
        return len(self.patches) + self.others

    def words(self) -> str:
        """Say where the grid comes from, for meta."""
        one = "token beside it" if self.others == 1 else "tokens beside it"
        origin = "as given" if self.source is None else f"after {self.source}"
        return f"{self.height}x{self.width} {origin}" + (
            f", {self.others} {one}" if self.others else ""
        )

    def __str__(self) -> str:
        """Write "14x14 + 1": the patches, and how many other tokens."""
        return f"{self.height}x{self.width}" + (f" + {self.others}" if self.others else "")


@dataclass(frozen=True)
class Role:
    """What the axes of a tensor are; `grid` is there where one of them is tokens, "T"."""

    axes: Axes
    grid: Grid | None = None


def trace_roles(nodes: Sequence[gs.Node], source: str, axes: Axes | None) -> dict[str, Role]:
    """Return the role of every tensor to which one can be followed, from the input and from convolutions."""
    roles: dict[str, Role] = {} if axes is None else {source: Role(axes)}
    for node in nodes:
        for y in node.outputs:
            role = _role_after(node, y, roles)
            if role is not None and y.shape is not None and len(role.axes) == len(y.shape):
                roles[y.name] = role
    return roles


def patches_that_count(nodes: Sequence[gs.Node], roles: Mapping[str, Role], logit: str) -> set[str]:
    """Return the tensors of tokens whose patches, not other tokens alone, have a path to the logit.

    Behind the last attention of a network with a class token they have none: a map there is all zeros.
    """
    reaching, counting = {logit}, set[str]()
    for node in reversed(nodes):
        for x, y in differentiable_edges(node):
            if y.name not in reaching:
                continue
            reaching.add(x.name)
            role = roles.get(x.name)
            if role is None or role.grid is None:
                continue
            by_row = node.op not in _ROWS_OF_FIRST or x is node.inputs[0]
            if by_row and y.name in roles and roles[y.name].grid is not None:
                passed = y.name in counting
            else:
                passed = _reads_patches(node, x, y, role)
            counting |= {x.name} if passed else set()
    return counting


# --- one node ------------------------------------------------------------------------------------
def _role_after(node: gs.Node, y: gs.Tensor, roles: Mapping[str, Role]) -> Role | None:
    if node.op in _CHANNELS_FIRST:
        rank = len(y.shape or ())
        return Role("NC" + _SPATIAL_NAMES[rank - 2]) if rank - 2 in _SPATIAL_NAMES else None
    if node.op in _RELABELLING:
        return None
    known = [x for x in node.inputs if x.name in roles]
    if not known:
        return None
    x = max(known, key=lambda x: len(roles[x.name].axes))
    role = roles[x.name]
    if node.op == "Reshape":
        return _reshaped(x, y, role)
    if node.op == "Transpose":
        order = node.attrs.get("perm", list(range(len(role.axes)))[::-1])
        return Role("".join(role.axes[i] for i in order), role.grid)
    if role.grid is None:
        return role
    several = sum(roles[i.name].grid is not None for i in known) > 1
    return _tokens_after(node, x, y, role, several)


def _reshaped(x: gs.Tensor, y: gs.Tensor, role: Role) -> Role | None:
    """Return the role of a flattened feature map, or of tokens that become one again."""
    before, after = list(x.shape or ()), list(y.shape or ())
    if "HW" in role.axes and len(role.axes) == 4:
        at = role.axes.index("H")
        h, w = before[at : at + 2]
        known = isinstance(h, int) and isinstance(w, int)
        if known and after == [*before[:at], h * w, *before[at + 2 :]]:
            return Role(role.axes.replace("HW", "T"), Grid(h, w, source=x.name))
    elif role.grid is not None and not role.grid.others:
        at = role.axes.index("T")
        if after == [*before[:at], role.grid.height, role.grid.width, *before[at + 1 :]]:
            return Role(role.axes.replace("T", "HW"))
    return None


def _tokens_after(
    node: gs.Node, x: gs.Tensor, y: gs.Tensor, role: Role, several: bool
) -> Role | None:
    """Return the role of what is computed from tokens; None where its rows are not the same tokens.

    `several`: other inputs of the node are tokens of patches, too.
    """
    assert role.grid is not None
    grid, at = role.grid, role.axes.index("T")
    shape = y.shape or ()
    if len(shape) != len(role.axes):
        return None
    if node.op in _ROWS_OF_FIRST and (x is not node.inputs[0] or at == len(shape) - 1):
        return None
    if node.op == "Concat" and node.attrs["axis"] % len(shape) == at:
        if several:
            return None  # two grids in a row
        sizes = [i.shape[at] for i in node.inputs]
        where = next(i for i, one in enumerate(node.inputs) if one is x)
        grid = replace(
            grid,
            before=grid.before + sum(sizes[:where]),
            after=grid.after + sum(sizes[where + 1 :]),
        )
    elif (part := _part_taken(node, x, y, at)) is not None:
        if part.step != 1 or part.start > grid.before or part.stop < grid.patches.stop:
            return None
        after = part.stop - grid.patches.stop
        grid = replace(grid, before=grid.before - part.start, after=after)
    fits = shape[at] == grid.tokens and grid.others <= MOST_OTHERS
    return Role(role.axes, grid) if fits else None


def _part_taken(node: gs.Node, x: gs.Tensor, y: gs.Tensor, at: int) -> range | None:
    """Return which tokens (axis `at` of `x`) a Slice or Split takes; None where it is neither."""
    size, rank = x.shape[at], len(x.shape)
    if node.op == "Split" and node.attrs.get("axis", 0) % rank == at:
        sizes = [one.shape[at] for one in node.outputs]
        start = sum(sizes[: next(i for i, one in enumerate(node.outputs) if one is y)])
        return range(start, start + y.shape[at])
    if node.op != "Slice" or not all(isinstance(i, gs.Constant) for i in node.inputs[1:]):
        return None
    given = [i.values.tolist() for i in node.inputs[1:]]
    starts, stops = given[:2]
    axes = given[2] if len(given) > 2 else list(range(len(starts)))
    steps = given[3] if len(given) > 3 else [1] * len(starts)
    for start, stop, axis, step in zip(starts, stops, axes, steps, strict=True):
        if axis % rank == at:
            return range(size)[slice(start, stop, step)]
    return None


def _reads_patches(node: gs.Node, x: gs.Tensor, y: gs.Tensor, role: Role) -> bool:
    """Return whether a node that takes tokens apart reads patches; where it cannot be told, it does not."""
    assert role.grid is not None
    at = role.axes.index("T")
    if node.op == "Gather" and node.attrs.get("axis", 0) % len(role.axes) == at:
        if not isinstance(node.inputs[1], gs.Constant):
            return False
        taken = (node.inputs[1].values.reshape(-1) % role.grid.tokens).tolist()
        return bool(set(taken) & set(role.grid.patches))
    part = _part_taken(node, x, y, at)
    return part is None or bool(set(part) & set(role.grid.patches))

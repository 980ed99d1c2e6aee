"""What the page's words mean; which definitions are the paper's and which are ours."""

from __future__ import annotations

PAPER = "Cheng et al., Deeply Explain CNN via Hierarchical Decomposition, IJCV 2023"

DEFINITIONS: tuple[tuple[str, str], ...] = (
    (
        "Hierarchy",
        "The decision is explained by the channels of the layer below that contribute most to it; each of "
        f"these becomes a decision of its own, and so on down (the idea of {PAPER}). The formulas are ours.",
    ),
    (
        "Contribution",
        "How much of its parent's decision a channel makes up: the sum over its positions of gradient times "
        "activation, the network being linearised at this very image. Negative: it inhibits. With the "
        'weight "positive" only positive gradients count, with "mean" each channel\'s mean gradient.',
    ),
    (
        "Share",
        "The contribution divided by all positive contributions to the same parent, those not shown "
        "included. Share of the decision: the product of the shares on the way from the top.",
    ),
    (
        "Residual",
        "What remains of a decision when the contributions of all channels of the layer below are taken "
        "away: biases, the curvature of activation functions that are not piecewise linear, and what a "
        'weight other than "signed" leaves out. It is part of the decision but belongs to no channel.',
    ),
    (
        "Coverage",
        "The shares of the children shown, summed. The rest is support that the page does not show.",
    ),
    (
        "Heat",
        "Where in the layer the contribution lies: its positive part (of an inhibitor the negative part, in "
        "other colours), relative to its maximum, enlarged to the picture.",
    ),
    (
        "Box",
        "The receptive field of the position that contributes most: all that this position can see of the "
        "picture. A node's crop is this box, widened to a square.",
    ),
    (
        "Pixel evidence",
        "Of a last node: gradient of its decision times input, summed over the colours. Red speaks for it, "
        "blue against it.",
    ),
    (
        "Keys",
        "Tab goes from node to node, column by column. Right: to the strongest child. Left: to the parent. "
        "Up and down: within the column. Enter: only the paths through this node. Escape: all paths.",
    ),
)

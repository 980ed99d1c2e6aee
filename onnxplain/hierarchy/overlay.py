"""A hierarchy as colours on the model's own graph, in Google's Model Explorer.

The file is its "custom node data": a value per node and a gradient. Model Explorer finds a node by its id or
by an output's `tensor_name`. Its ONNX adapter (model-explorer-onnx 0.4) takes the graph's name as the graph's
id and the ONNX node's name as the node's, and gives no tensor names: hence the model file is asked for them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from onnxplain.errors import ConfigError
from onnxplain.files import write_text
from onnxplain.hierarchy.hierarchy import Hierarchy

if TYPE_CHECKING:
    from onnxplain.graph.load import Source

Measure = Literal["root_share", "contribution"]
GRADIENT = ("#fff5eb", "#fd8d3c", "#7f2704")
"""Colours from the smallest value to the largest."""


def overlay(
    hierarchy: Hierarchy, model: Source | None = None, measure: Measure = "root_share"
) -> dict[str, Any]:
    """Return Model Explorer's node data: for every layer of the hierarchy, summed over its supporting nodes.

    model: the file that was explained. Without it nodes are named by the tensors they produce, which suits
        adapters that give `tensor_name`, and the data is for whatever graph is shown. The same holds of
        nodes without a name, and of layers that the file itself does not have (found in a rewritten form).
    measure: "root_share", how much of the decision runs through the nodes kept, in [0, 1]; "contribution",
        of the unit of the score.

    Raises ConfigError (measure; another model than the one explained), ModelError (the file cannot be read).
    """
    from onnxplain.graph.load import read_model  # onnx is slow to import, and not always needed

    if measure not in get_args(Measure):
        raise ConfigError(f"measure {measure!r} is unknown: choose {', '.join(get_args(Measure))}")
    totals: dict[str, float] = {}
    for node in hierarchy:
        if not node.inhibits:
            totals[node.layer] = totals.get(node.layer, 0.0) + getattr(node, measure)
    stops = [
        {"stop": i / (len(GRADIENT) - 1), "bgColor": colour} for i, colour in enumerate(GRADIENT)
    ]
    if model is None:
        return _data(totals, stops)
    file = read_model(model)
    if hierarchy.meta.get("sha256", file.sha256) != file.sha256:
        raise ConfigError(f"{file.name} is not the model that the hierarchy explains")
    graph = file.proto.graph
    names = {tensor: n.name for n in graph.node for tensor in n.output if tensor and n.name}
    by_node: dict[str, float] = {}
    for layer, total in totals.items():
        key = names.get(layer, layer)  # two layers of one node, or one that hides another's name
        by_node[key] = by_node.get(key, 0.0) + total
    return {graph.name: _data(by_node, stops)}


def write_overlay(
    hierarchy: Hierarchy,
    path: str | Path,
    model: Source | None = None,
    measure: Measure = "root_share",
) -> Path:
    """Write `overlay` as JSON; return the path. Raises as it does, and OutputError."""
    data = overlay(hierarchy, model, measure)
    write_text(path, json.dumps(data, indent=1, allow_nan=False) + "\n")
    return Path(path)


def _data(values: dict[str, float], stops: list[dict[str, Any]]) -> dict[str, Any]:
    return {"results": {key: {"value": value} for key, value in values.items()}, "gradient": stops}

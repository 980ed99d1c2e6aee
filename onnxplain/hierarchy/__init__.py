"""The evidence behind a decision as a graph: nodes, edges, queries, files."""

from onnxplain.hierarchy.hierarchy import HEdge as HEdge
from onnxplain.hierarchy.hierarchy import Hierarchy as Hierarchy
from onnxplain.hierarchy.hierarchy import HNode as HNode

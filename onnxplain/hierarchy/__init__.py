"""The evidence behind a decision as a graph: nodes, edges, queries, files."""

from onnxplain.hierarchy.aggregate import HierarchyUse as HierarchyUse
from onnxplain.hierarchy.aggregate import Use as Use
from onnxplain.hierarchy.aggregate import aggregate as aggregate
from onnxplain.hierarchy.compare import HierarchyDifference as HierarchyDifference
from onnxplain.hierarchy.compare import LevelDifference as LevelDifference
from onnxplain.hierarchy.compare import compare as compare
from onnxplain.hierarchy.exports import write as write
from onnxplain.hierarchy.hierarchy import HEdge as HEdge
from onnxplain.hierarchy.hierarchy import Hierarchy as Hierarchy
from onnxplain.hierarchy.hierarchy import HNode as HNode
from onnxplain.hierarchy.overlay import overlay as overlay
from onnxplain.hierarchy.overlay import write_overlay as write_overlay
from onnxplain.hierarchy.queries import EvidencePath as EvidencePath
from onnxplain.hierarchy.queries import merged as merged
from onnxplain.hierarchy.queries import paths as paths
from onnxplain.hierarchy.queries import strongest_path as strongest_path
from onnxplain.hierarchy.queries import subtree as subtree
from onnxplain.hierarchy.text import text as text

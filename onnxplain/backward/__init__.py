"""The backward pass, written into the graph: rule tables, the context of a rule, and the reverse walk."""

from onnxplain.backward import rules
from onnxplain.backward.context import Context
from onnxplain.backward.table import VJP, Rule, RuleTable
from onnxplain.backward.walk import walk

__all__ = ["VJP", "Context", "Rule", "RuleTable", "rules", "walk"]

"""Measures of maps: arrays in, a number per image out.

- answers: what a model says of images and of altered versions; fills: what altered pixels become
- case: images, maps and methods to judge; registry: every metric by name, with direction and range
- masking (average drop ...), curves (insertion, deletion, allegiance), robust (infidelity, sensitivity),
  shape (sparseness, complexity), localise (objects), coefficients (Shapley values), channels, sanity
- likeness: how alike two maps are
- evaluate: methods x metrics x models over data; statistics: intervals and comparisons of what it found
- occlude: what pixels do to an answer, foretold and observed
"""

from onnxplain.metrics.answers import Answers
from onnxplain.metrics.case import Case
from onnxplain.metrics.registry import METRICS, Metric

__all__ = ["METRICS", "Answers", "Case", "Metric"]

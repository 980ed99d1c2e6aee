"""What is explained: a class, a contrast, any output element, a weighted sum -> a seed."""

from onnxplain.target.target import Classes, Seeds, Target, as_target, scores, single_ones
from onnxplain.target.text import parse_target

__all__ = ["Classes", "Seeds", "Target", "as_target", "parse_target", "scores", "single_ones"]

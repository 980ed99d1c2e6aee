"""Gates for deployment: what must hold of a model, its explanations, and of two files beside each other.

- options, lines, config: the file that says what to check, and the mistakes in it
- kinds: every kind of check; agree, place, stable, sound: what they measure
- seen, annotations: what they look at; job: one pass that measures all
- judge, report, baseline: numbers -> verdict; running: the run of a file
- match, comparing: two files beside each other
- pictures, outputs, junit, markdown, page: what is written
"""

from onnxplain.checks.baseline import save_baseline
from onnxplain.checks.comparing import compare
from onnxplain.checks.report import Bad, Report, Result
from onnxplain.checks.running import check

__all__ = ["Bad", "Report", "Result", "check", "compare", "save_baseline"]

"""Write docs/ops.md, what each operator's backward rule is and what tests it: `python -m tools.ops`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import onnx

import onnxplain.backward.rules  # noqa: F401  (registers the rules)
from onnxplain.backward import VJP
from onnxplain.backward.variants import RESCALE
from onnxplain.graph.canonical import REWRITES
from onnxplain.graph.paths import WITHOUT_SIGNAL
from onnxplain.graph.quantized import CONTRIB, STANDARD
from tests.backward.cases import CASES
from tests.zoo.measure import ZOO

PAGE = Path(__file__).resolve().parent.parent / "docs" / "ops.md"
HEAD = """# Operators

Written by `python -m tools.ops` from the registry. {rules} operators have a backward rule, {exact} of them
exact; {composed} more are written as others first; {silent} carry no signal. Any other operator between an
output and its input is refused by name; the last section says why.

- **gradient**: exact, or which surrogate. **rescale**: whether DeepLIFT's multipliers (LIFT-CAM) go through.
- **cases**: rows in `tests/backward/cases`, each against float64 central differences.
- **zoo**: files in `tests/zoo/models` that use it, each against float64 central differences of the whole net.
"""


REFUSED = {
    "Control flow that depends on the input (a constant If is resolved)": ("If", "Loop", "Scan"),
    "Recurrent": ("GRU", "LSTM", "RNN"),
    "Sequences and optional values, not tensors": (
        "ConcatFromSequence", "Optional", "OptionalGetElement", "OptionalHasElement", "SequenceAt",
        "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength",
        "SequenceMap", "SplitToSequence",
    ),
    "Text and encoded files": (
        "ImageDecoder", "RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit",
        "TfIdfVectorizer",
    ),
    "Random": ("Multinomial", "RandomNormalLike", "RandomUniformLike"),
    "Losses of training": ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"),
    "States and layers of language models": (
        "CausalConvWithState", "LinearAttention", "SwiGLU", "TensorScatter",
    ),
    "Spectra": ("DFT", "STFT"),
    "Differentiable, not met in vision networks so far": ("CumProd", "Det", "MaxRoiPool"),
    "Bits of whole numbers": (
        "BitCast", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor",
    ),
}  # fmt: skip
"""Reason -> the standard's operators that have no rule."""
SOURCES = {
    "Constant", "ConstantOfShape", "EyeLike", "RandomNormal", "RandomUniform", "Range", "BlackmanWindow",
    "HammingWindow", "HannWindow", "MelWeightMatrix",
}  # fmt: skip
"""Operators whose inputs, if any, are settings: constants to all that follows."""
LIFTED = {"Scatter", "Upsample"}  # of old opsets, which are lifted to ScatterElements and Resize


BEYOND = "score-cam, ablation-cam and shap-cam only run forward: they take layers before such operators, too."


def page() -> str:
    """Return the page as the registry, the cases and the zoo have it now."""
    rules = sorted(VJP)
    composed = sorted(
        {*STANDARD, *(f"com.microsoft.{op}" for op in CONTRIB), *REWRITES} - set(rules)
    )
    silent = sorted(WITHOUT_SIGNAL)
    exact = sum(rule.exact for op in rules if (rule := VJP.find(op)) is not None)
    head = HEAD.format(rules=len(rules), exact=exact, composed=len(composed), silent=len(silent))
    lines = [head, *_table(rules), "", "## Written as other operators", ""]
    lines += [", ".join(composed), "", "## Without a signal", ""]
    lines += [
        "Their result depends on shapes alone, or jumps: the gradient is zero wherever it exists.",
        "",
    ]
    lines += [", ".join(silent), "", "## Refused", ""]
    lines += [f"- {reason}: {', '.join(ops)}." for reason, ops in REFUSED.items()]
    lines += ["", BEYOND]
    return "\n".join([*lines, ""])


def _table(rules: list[str]) -> Iterator[str]:
    cases, files = _cases(), _zoo()
    yield "| op | gradient | rescale | cases | zoo |"
    yield "| --- | --- | --- | --- | --- |"
    for op in rules:
        rule = VJP.find(op)
        assert rule is not None
        gradient = "exact" if rule.exact else f"surrogate: {rule.note}"
        rescale = "yes" if op in RESCALE else "no"
        yield f"| {op} | {gradient} | {rescale} | {cases.get(op, 0)} | {files.get(op, 0)} |"


def _cases() -> dict[str, int]:
    """Return how many rows of the case table use each op."""
    return _count({*case.ops, *(n.op_type for n in case.model().graph.node)} for case in CASES)


def _zoo() -> dict[str, int]:
    """Return how many files of the zoo use each op."""
    models = (onnx.load(path, load_external_data=False) for path in sorted(ZOO.glob("*.onnx")))
    graphs = ((m.graph, *m.functions) for m in models)
    return _count({n.op_type for g in both for n in g.node if n.domain == ""} for both in graphs)


def _count(groups: Iterator[set[str]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for group in groups:
        for op in group:
            found[op] = found.get(op, 0) + 1
    return found


def main() -> int:
    """Write the page; return the exit code."""
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

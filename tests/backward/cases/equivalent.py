"""Cases that onnx's reference evaluator gets wrong or lacks: an equivalent model stands in as the oracle."""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx

from tests.backward.harness import Case


@dataclass(frozen=True)
class Equivalent(Case):
    """A case whose oracle runs `oracle`, the same function written with other nodes."""

    oracle: str = ""

    def model(self, kind: str = "float") -> onnx.ModelProto:
        """Return the model under test, or in double the equivalent."""
        if kind == "float":
            return super().model(kind)
        return Case.model(replace(self, body=self.oracle), kind)


def equivalent(case: Case, oracle: str) -> Equivalent:
    """Give a case another oracle, as onnx.parser text."""
    return Equivalent(**vars(case), oracle=oracle)

"""Every error a user can cause: one or two lines that name the file, op or layer and the way out.

All derive from `OnnxplainError`, so the command line (and callers) catch one type; anything else
that escapes is a bug.
"""

from __future__ import annotations


class OnnxplainError(Exception):
    """Base of every error that onnxplain raises on purpose."""


class ModelError(OnnxplainError):
    """The model file cannot be used: missing, broken, or nothing that can be explained."""


class UnsupportedOpError(ModelError):
    """An op on the way from the explained output to its input cannot be differentiated."""

    def __init__(self, op: str, node: str, reason: str) -> None:
        """Name the op, the node and the reason; the message says all three."""
        self.op, self.node, self.reason = op, node, reason
        short = node if len(node) <= 80 else f"{node[:60]}...{node[-17:]}"
        super().__init__(f"{op} (node {short!r}) cannot be explained through: {reason}")

    def __reduce__(self) -> tuple[type[UnsupportedOpError], tuple[str, str, str]]:
        """Travel between processes by the three facts."""
        return type(self), (self.op, self.node, self.reason)


class LayerError(OnnxplainError):
    """The layer is unknown, or unfit for the method asked of it."""


class TargetError(OnnxplainError):
    """The class, output or index to explain does not exist in this model."""


class InputError(OnnxplainError):
    """An image or array does not fit the model: unreadable, wrong shape or type, NaN."""


class ConfigError(OnnxplainError):
    """A setting (pre-processing, method name, device, option) is unknown or out of range."""


class OutputError(OnnxplainError):
    """A result could not be written; nothing half-written is left behind."""


class WorkerError(OnnxplainError):
    """Workers of a pass over data die of the same piece of work again and again."""


class CheckFailed(OnnxplainError):
    """A check of a model failed, or could not be run."""

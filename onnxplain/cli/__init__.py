"""The command line: arguments -> calls -> files."""

from onnxplain.cli.app import main

__all__ = ["main"]

"""The command line: arguments -> calls -> files."""

from onnxplain.cli import check as check  # registers its commands
from onnxplain.cli import decompose as decompose  # registers its command
from onnxplain.cli import diff as diff  # registers its command
from onnxplain.cli import evaluate as evaluate  # registers its command
from onnxplain.cli import export as export  # registers its command
from onnxplain.cli import filters as filters  # registers its command
from onnxplain.cli import monitor as monitor  # registers its command
from onnxplain.cli import occlude as occlude  # registers its command
from onnxplain.cli import predictions as predictions  # registers its command
from onnxplain.cli import serve as serve  # registers its command
from onnxplain.cli.app import main

__all__ = ["main"]

"""`python -m onnxplain`."""

from onnxplain.cli.app import main

main()

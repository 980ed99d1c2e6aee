"""`python -m onnxplain.cli`."""

from onnxplain.cli.app import main

main()

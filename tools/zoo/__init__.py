"""Small networks in every style that exporters write: `python -m tools.zoo` makes tests/zoo/models.

A style is one row of a table: a name, what it shows, and the function that writes its file. PyTorch nets are
in `classifiers`, `dense`, `attention` and `blocks`; `written` holds nets in ONNX's own text, `quantised` what
onnxruntime's quantiser makes. Weights are random and seeded.
"""

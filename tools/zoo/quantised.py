"""What onnxruntime's quantiser and optimiser make of nets of the zoo."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime import quantization as q

from tools.zoo.style import Arrays, Sample, Style, picture, run_plainly, strip

CNN, VIT = "ts_op17_dynamic", "vit"


class Pictures(q.CalibrationDataReader):  # type: ignore[misc]
    """Pictures to calibrate with, one by one."""

    def __init__(self) -> None:
        self._rows: Iterator[Arrays] = iter(
            [{"image": picture(1, 3, 16, 16, seed=s)} for s in range(20)]
        )

    def get_next(self) -> Arrays | None:
        """Return the next picture, None at the end."""
        return next(self._rows, None)


@dataclass(frozen=True)
class Static:
    """Calibrated int8 of a net that lies beside the file."""

    twin: str
    format: q.QuantFormat = q.QuantFormat.QDQ
    activations: q.QuantType = q.QuantType.QUInt8
    weights: q.QuantType = q.QuantType.QInt8
    per_channel: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
    only: Sequence[str] | None = None

    def __call__(self, path: Path) -> Sample:
        """Write the file; return its inputs and onnxruntime's answer."""
        logging.disable(logging.WARNING)  # it asks to be run on a pre-processed model
        q.quantize_static(
            path.with_name(f"{self.twin}.onnx"), path, Pictures(), quant_format=self.format,
            activation_type=self.activations, weight_type=self.weights, per_channel=self.per_channel,
            op_types_to_quantize=self.only, extra_options=dict(self.extra),
        )  # fmt: skip
        logging.disable(logging.NOTSET)
        return answered(path)


def dynamic(path: Path) -> Sample:
    """Write ConvInteger and MatMulInteger behind DynamicQuantizeLinear."""
    logging.disable(logging.WARNING)
    q.quantize_dynamic(path.with_name(f"{CNN}.onnx"), path, weight_type=q.QuantType.QUInt8)
    logging.disable(logging.NOTSET)
    return answered(path)


def optimised(path: Path) -> Sample:
    """Save what onnxruntime's extended optimisation makes of a float net: fused operators of its own."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    source = path.with_name(f"{CNN}.onnx")
    ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return answered(path)


def answered(path: Path) -> Sample:
    """Strip a file and run it on two pictures, one at a time: dynamic ranges then belong to an image."""
    strip(path)
    images = picture(2, 3, 16, 16)
    rows = [run_plainly(path, {"image": one[None]}) for one in images]
    outputs = {k: np.concatenate([row[k] for row in rows]) for k in rows[0]}
    opset = onnx.load(path).opset_import[0].version
    return Sample({"image": images}, outputs, f"onnxruntime {ort.__version__}, opset {opset}")


_S8, _U8 = q.QuantType.QInt8, q.QuantType.QUInt8
STYLES = [
    Style("int8_qdq_per_tensor", "int8, QDQ, a scale per tensor", Static(CNN), peer=True, float_twin=CNN),
    Style("int8_qdq_per_channel", "int8, QDQ, a scale per channel, signed activations",
          Static(CNN, activations=_S8, per_channel=True), peer=True, float_twin=CNN),
    Style("int8_qoperator", "int8, QLinearConv and its relatives",
          Static(CNN, format=q.QuantFormat.QOperator), peer=True, float_twin=CNN),
    Style("int8_qoperator_per_channel", "int8, QOperator, a scale per channel",
          Static(CNN, format=q.QuantFormat.QOperator, per_channel=True), float_twin=CNN),
    Style("int8_dynamic", "ConvInteger, MatMulInteger, DynamicQuantizeLinear", dynamic, peer=True,
          float_twin=CNN),
    Style("int16_qdq", "16-bit activations, QDQ",
          Static(CNN, activations=q.QuantType.QUInt16, extra={"UseQDQContribOps": True}), float_twin=CNN),
    Style("int8_vit", "int8 vision transformer, QDQ",
          Static(VIT, activations=_S8, only=["Conv", "MatMul"]), float_twin=VIT),
    Style("onnxruntime_optimised", "saved by onnxruntime after fusing", optimised, float_twin=CNN),
]  # fmt: skip

"""OpenVINO XAI, held to float32: on processors that have bfloat16 it would compute in it unasked."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_xai as xai
from openvino_xai.explainer import ExplainMode

from tools.bench.timing import Run

NAME = f"OpenVINO XAI {version('openvino_xai')}"
COMPILE = openvino.Core.compile_model


def fast(path: Path, x: np.ndarray, threads: int) -> dict[str, Run]:
    """Return OpenVINO's forward and the methods that enter the graph."""
    _pin(threads)
    compiled = openvino.Core().compile_model(model=str(path), device_name="CPU")
    told = partial(_explain, path, x, _predicted(path, x))
    inside = ExplainMode.WHITEBOX
    return {
        "forward": lambda: compiled(x),
        "ReciproCAM (default), of every class": told(inside, xai.Method.RECIPROCAM),
        "ActivationMap (of no class)": told(inside, xai.Method.ACTIVATIONMAP),
    }


def slow(path: Path, x: np.ndarray, threads: int) -> dict[str, Run]:
    """Return the black boxes."""
    _pin(threads)
    told = partial(_explain, path, x, _predicted(path, x), ExplainMode.BLACKBOX)
    return {
        "AISE (default black box)": told(xai.Method.AISE),
        "RISE, 1000 masks (default 5000)": told(xai.Method.RISE, num_masks=1000),
    }


def _pin(threads: int) -> None:
    """Say to every compilation what OpenVINO XAI has no option for."""
    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}

    def compiled(core: Any, model: Any, device_name: str) -> Any:
        return COMPILE(core, model, device_name, config)

    openvino.Core.compile_model = compiled


def _predicted(path: Path, x: np.ndarray) -> int:
    return int(_scores(openvino.Core().compile_model(str(path), "CPU")(x)).argmax())


def _scores(outputs: Any) -> np.ndarray:
    return np.asarray(outputs[0])


def _explain(
    path: Path, x: np.ndarray, target: int, mode: Any, method: Any, **options: object
) -> Run:
    explainer = xai.Explainer(
        path,
        task=xai.Task.CLASSIFICATION,
        explain_mode=mode,
        explain_method=method,
        postprocess_fn=_scores,
    )
    return lambda: explainer(x, targets=target, colormap=False, **options)

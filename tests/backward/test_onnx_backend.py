"""ONNX's own node cases as gradient checks: every op with an exact rule, against float64 differences.

Directional: <gradient, u> for random u is compared with the central difference of onnx's reference
evaluator along u. Inputs are jittered first: where they tie, no derivative exists. No axis counts images
here, so all shapes are fixed.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

import onnxplain.backward.rules  # noqa: F401  (registers the rules)
from onnxplain.backward import VJP
from onnxplain.executor import Executor
from onnxplain.graph.attention import ATTENTION
from onnxplain.graph.canonical import canonicalize, import_graph
from onnxplain.graph.functions import FUNCTIONS
from onnxplain.program import Program
from tests.sampling import SAMPLING

Arrays = dict[str, np.ndarray]

STEP = 1e-6
TOLERANCE = 1e-3
NEWEST = {"Attention": 25, "RoiAlign": 21}  # 24 for the others
"""Cases for later opsets run as this one, which onnxruntime knows."""

CONSTANT: dict[str, tuple[int, ...]] = {
    "BatchNormalization": (1, 2, 3, 4), "Clip": (1, 2), "Conv": (1, 2), "ConvTranspose": (1, 2),
    "Dropout": (1,), "GroupNormalization": (1, 2), "InstanceNormalization": (1, 2),
    "LayerNormalization": (1, 2), "PRelu": (1,), "Pad": (2,), "RMSNormalization": (1,),
    "Resize": (1, 2), "RoiAlign": (1,),
}  # fmt: skip
"""Op -> float inputs that its rule wants constant: parameters and settings."""

AS_FLOAT = {"CumSum": 1, "Einsum": 2, "GatherND": 1, "Pad": 1, "ReduceLogSumExp": 1, "Trilu": 1}
"""Op -> how many inputs of its cases to take as float32; they hold integers or doubles."""

COARSE = {"GroupNormalization": 1e-2, "LayerNormalization": 1e-2, "RMSNormalization": 1e-2}
"""Op -> step, where the reference computes in float32 in parts."""

SKIPPED = {
    "test_attention_*nonpad*": "refused: the lengths of a cache",
    "test_attention_*ext_cache*": "refused: the lengths of a cache",
    "test_attention_*padded_kv": "refused: the lengths of a cache",
    "test_batchnorm_*_training_mode": "refused: training mode",
    "test_compress_default_axis": "refused: mixes the images",
    "test_einsum_*diagonal": "refused: repeats a label",
    "test_gathernd_*batch_dim1": "refused: batch_dims",
    "test_einsum_inner_prod": "a seed has an axis of images; a scalar has none",
    "test_einsum_scalar": "a seed has an axis of images; a scalar has none",
    "test_matmul_1d_1d": "a seed has an axis of images; a scalar has none",
    "test_maxunpool_*with_output_shape": "refused: output_shape",
    "test_mod_*fmod_0*": "float without fmod is younger than onnxruntime",
    "test_mvn": "onnx's reference runs in float32 only",
    "test_pow_types_int*": "the result is an integer",
    "test_pow_types_float32_uint*": "not implemented by onnxruntime",
    "test_resize_downsample_scales_*_align_corners": "onnxruntime's forward is not onnx's",
    "test_resize_*antialias": "refused: antialias",
    "test_resize_tf_crop_and_resize*": "refused: tf_crop_and_resize",
    "test_roialign_mode_max": "refused: mode max",
    "test_scatter*_m[aiu][xnl]*": "refused: reduction other than add",
    "test_training_dropout*": "refused: training mode",
    "test_spacetodepth_*mode_example": "mode is younger than onnxruntime",
}
"""Case name, or pattern -> why it is not checked."""


class Erf(OpRun):  # type: ignore[misc]
    """onnx's own rounds to float32."""

    def _run(self, x: np.ndarray) -> tuple[np.ndarray]:
        return (np.vectorize(math.erf, otypes=[x.dtype])(x),)


class Gelu(OpRun):  # type: ignore[misc]
    """onnx's own rounds to float32."""

    def _run(self, x: np.ndarray, approximate: str | None = None) -> tuple[np.ndarray]:
        if approximate == "tanh":
            return (x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),)
        erf = np.vectorize(math.erf, otypes=[x.dtype])
        return (x / 2 * (1 + erf(x / math.sqrt(2))),)


@dataclass(frozen=True)
class NodeCase:
    """A model of one node, its inputs, and the names to differentiate with respect to."""

    name: str
    model: onnx.ModelProto
    values: Arrays
    free: tuple[str, ...]

    def program(self, outputs: list[str]) -> Program:
        """Fix the inputs that are not free, and linearise."""
        fixed = onnx.ModelProto()
        fixed.CopyFrom(self.model)
        del fixed.graph.input[:]
        fixed.graph.input.extend(i for i in self.model.graph.input if i.name in self.free)
        del fixed.graph.output[:]  # what is not explained may be caches, statistics or masks
        fixed.graph.output.extend(o for o in self.model.graph.output if o.name in outputs)
        rest = {k: v for k, v in self.values.items() if k not in self.free}
        fixed.graph.initializer.extend(onnx.numpy_helper.from_array(v, k) for k, v in rest.items())
        shapes = {k: self.values[k].shape for k in self.free}
        graph, why = canonicalize(import_graph(fixed), shapes)
        assert why is None, why
        return Program(graph, outputs, self.free, VJP, Executor("cpu", threads=1))

    def check(self) -> None:
        """Assert <gradient, u> = d<seed, y>/du for every free input."""
        rng = np.random.default_rng(0)
        floats = [
            o for o in self.model.graph.output if o.type.tensor_type.elem_type == TensorProto.FLOAT
        ]
        outputs = [o.name for o in floats]
        if self.model.graph.node[0].op_type != "Split":
            outputs = outputs[:1]  # the others are statistics or masks
        evaluator = ReferenceEvaluator(self.model, new_ops=[Erf, Gelu, *SAMPLING])
        exact = {k: v.astype(np.float64) if k in self.free else v for k, v in self.values.items()}
        names = [o.name for o in self.model.graph.output]

        def run(**changed: np.ndarray) -> Arrays:
            return dict(zip(names, evaluator.run(None, {**exact, **changed}), strict=True))

        step = COARSE.get(self.model.graph.node[0].op_type, STEP)
        expected = run()
        seeds = {o: rng.normal(size=expected[o].shape).astype(np.float32) for o in outputs}
        found = self.program(outputs).fused({k: self.values[k] for k in self.free}, seeds)
        for o in outputs:
            np.testing.assert_allclose(
                found[o], expected[o], rtol=1e-3, atol=1e-5, err_msg=self.name
            )
        for k in self.free:
            u = rng.normal(size=exact[k].shape)
            there, back = run(**{k: exact[k] + step * u}), run(**{k: exact[k] - step * u})
            rise = sum((seeds[o] * (there[o] - back[o])).sum() for o in outputs) / (2 * step)
            terms = found[f"gradient({k})"] * u
            assert terms.shape == u.shape
            error, scale = abs(terms.sum() - rise), abs(rise) + np.linalg.norm(terms)
            assert error <= TOLERANCE * scale, f"{self.name}, {k}: {terms.sum()} instead of {rise}"


@cache
def node_cases() -> dict[str, list[NodeCase]]:
    """Return ONNX's cases of one node, of those with a float input, by op."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own casts overflow, its own divisions are by zero
        collected = collect_testcases(None)
    found: dict[str, list[NodeCase]] = {}
    for case in collected:
        inputs = case.data_sets[0][0]
        if len(case.model.graph.node) == 1 and all(hasattr(x, "dtype") for x in inputs):
            prepared = _prepare(case.name, case.model, [np.asarray(x) for x in inputs])
            if prepared.free:
                found.setdefault(case.model.graph.node[0].op_type, []).append(prepared)
    return found


def _prepare(name: str, model: onnx.ModelProto, inputs: list[np.ndarray]) -> NodeCase:
    node = model.graph.node[0]
    values = dict(zip((i.name for i in model.graph.input), inputs, strict=True))
    if node.op_type in AS_FLOAT:
        model = _as_float(model, values)
    for entry in model.opset_import:
        entry.version = min(entry.version, NEWEST.get(node.op_type, 24))
    settings = [node.input[i] for i in CONSTANT.get(node.op_type, ()) if i < len(node.input)]
    moving = [
        k for k, v in values.items() if v.dtype == np.float32 and v.size and k not in settings
    ]
    rng = np.random.default_rng(len(name))
    for k in moving:
        values[k] = _jittered(node.op_type, values[k], rng)
    return NodeCase(name, model, values, tuple(moving))


def _as_float(model: onnx.ModelProto, values: Arrays) -> onnx.ModelProto:
    """Turn the type of the data into float32, in the model and in `values`."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    kind = result.graph.input[0].type.tensor_type.elem_type
    data = AS_FLOAT[result.graph.node[0].op_type]
    for info in [*result.graph.input[:data], *result.graph.output]:
        if info.type.tensor_type.elem_type == kind:
            info.type.tensor_type.elem_type = TensorProto.FLOAT
    for info in result.graph.input[:data]:
        values[info.name] = values[info.name].astype(np.float32)
    return result


def _jittered(op: str, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Move off kinks and ties, but stay inside the op's domain."""
    moved = x + 0.1 if op == "Acosh" else x * 0.96 + rng.uniform(0.005, 0.02, size=x.shape)
    return np.asarray(moved, dtype=np.float32)


def _reason(name: str) -> str | None:
    return next((why for pattern, why in SKIPPED.items() if fnmatch(name, pattern)), None)


OPS = sorted({*(op for op in VJP if VJP.find(op).exact), *ATTENTION, *FUNCTIONS})


@pytest.mark.parametrize("op", OPS)
def test_gradient_of_every_node_case(op: str) -> None:
    cases = node_cases().get(op)
    if not cases:
        pytest.skip(f"onnx has no node case of {op} with float inputs")
    checked = [case for case in cases if _reason(case.name) is None]
    for case in checked:
        case.check()
    if not checked:
        pytest.skip("; ".join(f"{case.name}: {_reason(case.name)}" for case in cases))


def test_every_skip_names_a_case() -> None:
    names = [case.name for op in OPS for case in node_cases().get(op, [])]
    stale = [p for p in SKIPPED if not any(fnmatch(name, p) for name in names)]
    assert not stale

"""Check a backward rule against central differences of the forward model in float64.

The oracle shares nothing with the rules: onnx's reference evaluator runs the *original* model text with
every tensor in double; the gradient under test is what onnxruntime computes in float32.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import parser
from onnx.reference import ReferenceEvaluator

from onnxplain.backward import VJP, RuleTable
from onnxplain.executor import Executor
from onnxplain.graph.canonical import canonicalize, import_graph
from onnxplain.program import Program
from tests.sampling import SAMPLING

STEP = 1e-6


@dataclass(frozen=True)
class Case:
    """One model to check: `body` is onnx.parser text of the nodes, `ops` what it covers.

    `inputs` maps names to shapes without the image axis ("x": (3, 5)); all float inputs are differentiated.
    `low`/`high` bound the random inputs, drawn apart from each other so that no kink is within a step.
    `pinned`: the operator counts through the whole batch, so images run one by one.
    """

    name: str
    body: str
    inputs: dict[str, tuple[int, ...]]
    output: tuple[int, ...] | None = (
        None  # shape without the image axis; None: unknown rank is fine
    )
    ops: tuple[str, ...] = ()
    low: float = -1.0
    high: float = 1.0
    opset: int = 18
    tolerance: float = 2e-4
    initializers: dict[str, np.ndarray] = field(default_factory=dict)
    images: int = 2
    pinned: bool = False

    def __str__(self) -> str:
        return self.name

    def model(self, kind: str = "float") -> onnx.ModelProto:
        """Parse the text, with every float tensor as `kind`; initializers are cast along."""
        given = ", ".join(f"{kind}[{_dims(s)}] {k}" for k, s in self.inputs.items())
        result = f"{kind}[{_dims(self.output)}] y" if self.output is not None else f"{kind}[N] y"
        header = f'<ir_version: 10, opset_import: ["": {self.opset}]>'
        text = f"{header} case ({given}) => ({result}) {{ {self.body} }}"
        model = parser.parse_model(text.replace("float[", f"{kind}["))
        if self.output is None:
            model.graph.output[0].type.tensor_type.ClearField("shape")
        for name, array in self.initializers.items():
            cast = (
                array.astype(np.float64)
                if kind == "double" and array.dtype == np.float32
                else array
            )
            model.graph.initializer.append(onnx.numpy_helper.from_array(cast, name))
        return model

    def draw(self, rng: np.random.Generator, images: int) -> dict[str, np.ndarray]:
        """Draw inputs whose values are all different (a shuffled, jittered grid): ties are not bugs."""
        drawn = {}
        for name, shape in self.inputs.items():
            n = int(np.prod((images, *shape)))
            grid = (
                self.low + (self.high - self.low) * (np.arange(n) + 0.2 + 0.6 * rng.random(n)) / n
            )
            drawn[name] = rng.permutation(grid).reshape(images, *shape).astype(np.float32)
        return drawn


def _dims(shape: tuple[int, ...] | None) -> str:
    return ", ".join(["N", *map(str, shape or ())])


PLAIN = RuleTable("vjp", base=VJP)
"""The same rules where nothing is written for the CPU's blocked layout."""


def make_program(case: Case, rules: RuleTable = VJP) -> Program:
    """Canonicalise the case and linearise it with respect to all its inputs."""
    inputs = {k: ("N", *s) for k, s in case.inputs.items()}
    graph, why = canonicalize(import_graph(case.model()), inputs)
    assert (why is not None) == case.pinned, why
    return Program(graph, ["y"], list(inputs), rules, Executor("cpu", threads=1))


def forward64(case: Case, x: dict[str, np.ndarray]) -> np.ndarray:
    """Run the original text in double with onnx's reference evaluator."""
    evaluator = ReferenceEvaluator(case.model("double"), new_ops=SAMPLING)
    return np.asarray(evaluator.run(None, {k: v.astype(np.float64) for k, v in x.items()})[0])


def finite_differences(
    case: Case, x: dict[str, np.ndarray], seed: np.ndarray
) -> dict[str, np.ndarray]:
    """Return d<seed, y>/dx by central differences in float64, element by element, images at once."""
    exact = {k: v.astype(np.float64) for k, v in x.items()}
    gradients = {}
    for name, value in exact.items():
        flat = np.zeros((len(value), value[0].size))
        for i in range(value[0].size):
            sides = []
            for sign in (1, -1):
                moved = value.reshape(len(value), -1).copy()
                moved[:, i] += sign * STEP
                y = forward64(case, {**exact, name: moved.reshape(value.shape)})
                sides.append((seed * y).reshape(len(value), -1).sum(1))
            flat[:, i] = (sides[0] - sides[1]) / (2 * STEP)
        gradients[name] = flat.reshape(value.shape)
    return gradients


def check_gradient(case: Case) -> None:
    """Assert that gradients of batch, one image and several seeds equal finite differences."""
    rng = np.random.default_rng(7)
    x = case.draw(rng, 1 if case.pinned else case.images)
    expected_y = forward64(case, x)
    seed = rng.normal(size=expected_y.shape).astype(np.float32)
    expected = finite_differences(case, x, seed)
    assert any(np.abs(v).max() > 0 for v in expected.values()), (
        "a case whose gradient is zero shows nothing"
    )
    for program in (make_program(case), make_program(case, PLAIN)):
        linearized = program.forward(x)
        assert_close(linearized["y"], expected_y, case.tolerance)
        found = linearized.backward({"y": seed})
        fused = program.fused(x, {"y": seed})
        for name, value in expected.items():
            assert_close(found[name], value, case.tolerance)
            assert_close(fused[f"gradient({name})"], value, case.tolerance)
        if not case.pinned:
            check_several_seeds(program, x, rng)


def check_several_seeds(
    program: Program, x: dict[str, np.ndarray], rng: np.random.Generator
) -> None:
    """Five seeds of one image, one more than run in one graph, equal five runs of one seed each."""
    one = {k: v[:1] for k, v in x.items()}
    linearized = program.forward(one)
    seeds = rng.normal(size=(5, *linearized["y"].shape[1:])).astype(np.float32)
    together = linearized.backward({"y": seeds})
    for i in range(5):
        alone = linearized.backward({"y": seeds[i : i + 1]})
        for name, value in alone.items():
            np.testing.assert_allclose(together[name][i : i + 1], value, rtol=1e-4, atol=1e-5)


def assert_close(found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Assert equal shapes and a relative L2 error (and largest error) within `tolerance`."""
    assert found.shape == expected.shape, (found.shape, expected.shape)
    scale = max(np.abs(expected).max(), 1e-3)
    worst = np.abs(found - expected).max() / scale
    assert worst <= tolerance, (
        f"largest error {worst:.2e} of the largest value, allowed {tolerance:.0e}"
    )

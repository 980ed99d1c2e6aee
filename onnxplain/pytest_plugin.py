"""pytest plugin: hold two files' explanations against each other, and load models once (docs/checks.md)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from onnxplain.dataset import Data
    from onnxplain.model import Model
    from onnxplain.results import Comparison

SHOWN = 5
"""Images that a failure names."""


def assert_explanations_match(
    model_a: Model | str | Path,
    model_b: Model | str | Path,
    data: Data,
    method: str = "lift_cam",
    *,
    agreement: float = 0.99,
    rank_correlation: float | None = 0.9,
    top_overlap: float | None = None,
    ssim: float | None = None,
    centre_shift: float | None = None,
    logit_difference: float | None = None,
    **options: Any,
) -> Comparison:
    """Compare two files on images (`onnxplain.compare`, whose options it takes); return what was found.

    agreement: least share of images for which both predict the same class. rank_correlation, top_overlap,
    ssim: least median; centre_shift, logit_difference: largest median; None asks for nothing.

    Raises AssertionError, which says what drifted and names the worst images; and what `compare` raises.
    """
    __tracebackhide__ = True
    from onnxplain.checks import compare

    found = compare(model_a, model_b, data, method, **options)
    medians = {name: v["median"] for name, v in found.summary().items()}
    least = {"rank_correlation": rank_correlation, "top_overlap": top_overlap, "ssim": ssim}
    most = {"centre_shift": centre_shift, "logit_difference": logit_difference}
    wrong = []
    if found.agreement < agreement:
        wrong.append(
            f"same class for {found.agreement:.1%} of the images, at least {agreement:.1%}"
        )
    for names, side, sign in ((least, "least", 1), (most, "most", -1)):
        for name, threshold in names.items():
            if threshold is None:
                continue
            if name not in medians:
                wrong.append(f"{name}: the models do not classify")
            elif sign * (medians[name] - threshold) < 0:
                wrong.append(f"median {name} {medians[name]:.4g}, at {side} {threshold:g}")
    if wrong:
        worst = [
            f"  {found.names[i]}: {found.rank_correlation[i]:.3f}" for i in found.order[:SHOWN]
        ]
        told = "; ".join(wrong)
        raise AssertionError(
            "\n".join(
                [f"explanations differ: {told} was asked for; least rank correlation:", *worst]
            )
        )
    return found


@pytest.fixture(scope="session")
def onnx_model() -> Callable[..., Model]:
    """Return a function that loads a model as `onnxplain.load` does, each file once per test session."""
    from onnxplain.model import load

    loaded: dict[str, Model] = {}

    def once(path: str | Path, **settings: Any) -> Model:
        key = f"{Path(path).resolve()} {sorted(settings.items())}"
        if key not in loaded:
            loaded[key] = load(path, **settings)
        return loaded[key]

    return once

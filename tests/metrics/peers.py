"""The case that captum and Quantus were given, and what they said: stored in peers.json.

Made once, in an environment of its own (neither is a dependency, Quantus is GPL):

    pip install torch==2.13.0 captum==0.9.0 quantus==0.6.0 pytest && pip install .
    python -m tests.metrics.peers
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tests import nets

Array = np.ndarray[Any, Any]
STORED = Path(__file__).with_name("peers.json")
STEPS = 8
NET = nets.conv_net("(float[N, 1, 8, 8] x) => (float[N, 4] y)", w1=(4, 1, 3, 3))
X = nets.images(3, (1, 8, 8))
CLASSES = np.array([0, 3, 1])
_RNG = np.random.default_rng(5)
MAPS = _RNG.random((3, 8, 8)).astype(np.float32)
CHANGES = (0.3 * _RNG.normal(size=(16, 1, 8, 8))).astype(np.float32)
SMALL = (0.05 * _RNG.uniform(-1, 1, (10, 1, 8, 8))).astype(np.float32)


class Twin(nn.Module):
    """NET in torch, float32."""

    def __init__(self) -> None:
        super().__init__()
        self.w = {k: v.float() for k, v in nets.weights_of(NET).items()}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nets.torch_logits(self.w, x)


def gradients(x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return d logit / d x of each image's class."""
    with torch.enable_grad():  # captum turns it off
        at = x.detach().clone().requires_grad_()
        logits = Twin()(at)
        (found,) = torch.autograd.grad(logits[torch.arange(len(x)), target].sum(), at)
    return found


def main() -> None:
    """Ask both and write peers.json."""
    import captum
    import captum.metrics
    import quantus

    x, target = torch.tensor(X), torch.tensor(CLASSES)
    at = gradients(x, target)

    def infidelity(normalize: bool) -> list[float]:
        turn = iter(torch.tensor(CHANGES))

        def perturb(inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            change = next(turn).expand_as(inputs)
            return change, inputs - change

        found = captum.metrics.infidelity(
            Twin(), perturb, x, at, target=target, n_perturb_samples=len(CHANGES),
            max_examples_per_batch=len(x), normalize=normalize,
        )  # fmt: skip
        return found.tolist()

    def alone(inputs: Any) -> torch.Tensor:
        return inputs[0] if isinstance(inputs, tuple) else inputs

    turn = iter(torch.tensor(SMALL))
    sensitivity = captum.metrics.sensitivity_max(
        lambda inputs, target: (gradients(alone(inputs), target),),
        x,
        perturb_func=lambda inputs: alone(inputs) + next(turn).expand_as(alone(inputs)),
        n_perturb_samples=len(SMALL),
        max_examples_per_batch=len(x),
        target=target,
    )
    flipping = quantus.PixelFlipping(
        features_in_step=64 // STEPS, perturb_baseline=0.0, abs=False, normalise=False,
        disable_warnings=True,
    )(
        model=Twin().eval(), x_batch=X, y_batch=CLASSES, a_batch=MAPS[:, None], device="cpu", softmax=True,
        channel_first=True,
    )  # fmt: skip
    found = {
        "versions": {
            "captum": captum.__version__,
            "quantus": quantus.__version__,
            "torch": torch.__version__,
        },
        "infidelity": infidelity(normalize=False),
        "infidelity_normalized": infidelity(normalize=True),
        "sensitivity_max": sensitivity.tolist(),
        "pixel_flipping": np.array(flipping).tolist(),
    }
    STORED.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

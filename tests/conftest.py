"""What several test modules share: where the real models and images are, and a seeded generator."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.browser import browser as browser  # a fixture

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("ONNXPLAIN_SHARED", ROOT.parent / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder with the real models and images, or skip with the reason."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"real models not found at {SHARED} (set ONNXPLAIN_SHARED)")
    return SHARED


@pytest.fixture
def rng() -> np.random.Generator:
    """Return a generator with a fixed seed."""
    return np.random.default_rng(0)

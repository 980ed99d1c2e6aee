"""The bundled model, served to all tests of this folder."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import httpx
import pytest

import onnxplain as ox
from onnxplain import bundled
from onnxplain.model import Model
from onnxplain.serve import api
from onnxplain.serve.work import Answer, Seen
from tests.serve.live import client, serving


@pytest.fixture(scope="session")
def model() -> Model:
    """Return the bundled model, on one thread: what sums in one order gives the same bits every time."""
    return ox.load(bundled.model_path(), device="cpu", threads=1)


@pytest.fixture(scope="session")
def address(model: Model) -> Iterator[str]:
    """Return the address of a server with its usual limits."""
    with serving(model) as found:
        yield found


@pytest.fixture
def http(address: str) -> Iterator[httpx.Client]:
    """Return a client of that server."""
    with client(address) as opened:
        yield opened


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Make every job wait until the event is set."""
    go, answer = threading.Event(), api.answer

    def waits(model: Model, seen: Seen, asked: api.Asked, report: Callable[..., None]) -> Answer:
        report("waiting", 1, 2)
        assert go.wait(30)
        return answer(model, seen, asked, report)

    monkeypatch.setattr(api, "answer", waits)
    yield go
    go.set()

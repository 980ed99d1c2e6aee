"""A live server in this process, on a free port, and what tests ask it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn

from onnxplain import bundled
from onnxplain.model import Model
from onnxplain.serve.api import Limits, create_app
from onnxplain.serve.run import listen

CAT, *_ = [photo for photo in bundled.photos() if photo.stem == "cat"]
NAMES = frozenset({"localhost"})


@contextmanager
def serving(model: Model, limits: Limits | None = None) -> Iterator[str]:
    """Serve a model on a free port; yield the address, and stop in the end."""
    listening = listen("127.0.0.1", 0)
    config = uvicorn.Config(create_app(model, NAMES, limits), log_level="critical", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()
    assert not thread.is_alive()


def client(address: str) -> httpx.Client:
    """Return a client of a server; environment proxies are not used."""
    return httpx.Client(base_url=address, timeout=120, trust_env=False)


def upload(http: httpx.Client, data: bytes | None = None) -> str:
    """Upload a picture, the cat unless told otherwise; return its id."""
    answer = http.post("/api/images", content=CAT.read_bytes() if data is None else data)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def ask(http: httpx.Client, image: str, *methods: str, **more: Any) -> dict[str, Any]:
    """Ask about a picture and wait; return the job's last status."""
    answer = http.post("/api/jobs", json={"image": image, "methods": methods, **more})
    assert answer.status_code == 202, answer.text
    return wait(http, answer.json()["id"])


def wait(http: httpx.Client, job: str) -> dict[str, Any]:
    """Wait until a job ended; return its status."""
    status: dict[str, Any] = {}

    def ended() -> bool:
        status.update(http.get(f"/api/jobs/{job}").json())
        return status["state"] not in ("queued", "running")

    until(ended, seconds=300)  # machines may be busy
    return status


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "this took too long"
        time.sleep(0.01)


def refused(answer: httpx.Response, code: int, *says: str) -> None:
    """Assert that an answer is one short sentence with this status code."""
    assert answer.status_code == code, answer.text
    assert answer.headers["content-type"] == "application/json"
    said = answer.json()
    assert set(said) == {"error"}
    assert len(said["error"]) < 500
    assert "Traceback" not in said["error"]
    for text in says:
        assert text in said["error"]

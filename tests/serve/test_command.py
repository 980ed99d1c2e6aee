"""`onnxplain serve` as a process: what it prints, how it stops, what it refuses."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import onnx
import pytest

from onnxplain import bundled
from onnxplain.cli import main
from tests import nets
from tests.serve.live import client, until, upload

MODEL = bundled.model_path()


def running(*options: object) -> AbstractContextManager[tuple[subprocess.Popen[str], str]]:
    """Start the command with the bundled model, on a free port."""
    words = map(str, (MODEL, "--port", 0, *options))
    return started([sys.executable, "-m", "onnxplain", "serve", *words])


@contextmanager
def started(command: list[str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a server; yield its process and its page's address, and stop it in the end."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, f"{line} {process.stderr.read() if process.stderr else ''}"
        yield process, found.group()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_and_stops_when_told(stop: signal.Signals) -> None:
    with running("--threads", 1) as (process, address):
        assert address.startswith("http://127.0.0.1:")
        with client(address) as http:
            upload(http)
        process.send_signal(stop)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == (0 if stop == signal.SIGINT else -signal.SIGTERM)
        assert errors == ""


def test_it_does_not_wait_for_what_runs() -> None:
    slow = (
        "import sys, time; from onnxplain.serve import api; from onnxplain.cli import main\n"
        "api.answer = lambda *_: time.sleep(600)\n"
        f"sys.argv = ['onnxplain', 'serve', {str(MODEL)!r}, '--port', '0']; main()"
    )
    with started([sys.executable, "-c", slow]) as (process, address):
        with client(address) as http:
            job = http.post(
                "/api/jobs", json={"image": upload(http), "methods": ["gradient"]}
            ).json()
            until(lambda: http.get(f"/api/jobs/{job['id']}").json()["state"] == "running")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")


def test_others_are_let_in_with_a_warning_only() -> None:
    with running("--host", "0.0.0.0") as (process, address):
        with client(address.replace("0.0.0.0", "127.0.0.1")) as http:
            assert http.get("/api/model").status_code == 200
            assert http.get("/api/model", headers={"Host": "evil.example"}).status_code == 400
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert "warning: everybody who can reach 0.0.0.0" in errors
        assert len(errors.splitlines()) == 1


def fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> str:
    """Run the command in this process; return its error of one line."""
    monkeypatch.setattr(sys, "argv", ["onnxplain", "serve", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    captured = capsys.readouterr()
    assert (caught.value.code, captured.out) == (2, "")
    (line,) = [x for x in captured.err.splitlines() if "pre-processing guessed" not in x]
    return line


def test_a_port_that_is_taken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = fails(monkeypatch, capsys, MODEL, "--port", port)
    assert f"port {port}" in line
    assert "--port 0" in line


def test_a_host_that_is_not_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "192.0.2.1" in fails(monkeypatch, capsys, MODEL, "--host", "192.0.2.1", "--port", 0)


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn"])
def test_without_the_extra(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, "onnxplain.serve.api", raising=False)
    line = fails(monkeypatch, capsys, MODEL)
    assert 'pip install "onnxplain[serve]"' in line
    assert missing in line


@pytest.mark.parametrize(
    ("head", "body", "takes"),
    [
        ("(float[N, 4] x) => (float[N, 2] y)", "y = MatMul(x, w)", "takes x, but"),
        (
            "(float[N, 3, 8, 8] x, float[N, 4] t) => (float[N, 3, 8, 8] y)",
            "v = MatMul(t, w) m = ReduceSum<keepdims = 0>(v) y = Mul(x, m)",
            "takes x, t, but",
        ),
    ],
)
def test_a_model_that_takes_anything_but_a_picture(
    head: str, body: str, takes: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path,
) -> None:  # fmt: skip
    path = tmp_path / "table.onnx"
    onnx.save(nets.build(head, body, w=(4, 2)), path)
    line = fails(monkeypatch, capsys, path)
    assert takes in line
    assert "one picture" in line

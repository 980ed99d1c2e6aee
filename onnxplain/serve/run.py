"""The server process: one model, one port, until Ctrl-C."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import sys
from pathlib import Path

from onnxplain.errors import ConfigError
from onnxplain.model import Model

EXTRA = 'pip install "onnxplain[serve]"'
CONNECTIONS = 128
"""Open at the same time; more are answered 503."""


def serve(model: Model, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serve the live page of a model until interrupted.

    host: the address to listen at; everything but this machine's own is reachable by others, without a
        password. port: 0 takes a free one. The page's address is printed to stdout.

    Raises ConfigError: the [serve] extra is missing, the address cannot be used, or the model takes anything
    but one picture.
    """
    if not model.spec.is_picture or len(model.graph.inputs) > 1:
        wanted = ", ".join(i.name for i in model.graph.inputs)
        raise ConfigError(
            f"{model.name}: takes {wanted}, but one picture is all that can be uploaded; "
            "`onnxplain explain` and the Python functions take arrays"
        )
    try:
        import uvicorn

        from onnxplain.serve.api import create_app
    except ModuleNotFoundError as error:
        raise ConfigError(f"serving needs {error.name}: {EXTRA}") from error
    listening = listen(host, port)
    app = create_app(model, names=frozenset({"localhost", host.lower()}))
    config = uvicorn.Config(
        app, log_level="warning", server_header=False, limit_concurrency=CONNECTIONS,
        timeout_keep_alive=15, timeout_graceful_shutdown=5, ws="none", proxy_headers=False,
    )  # fmt: skip
    _greet(model, host, listening)
    with contextlib.suppress(KeyboardInterrupt), listening:  # Ctrl-C is how a server is stopped
        uvicorn.Server(config).run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address; raises ConfigError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"cannot listen at {host!r}, port {port}: {error}") from error
    try:
        if os.name == "posix":  # elsewhere this would let another program share the port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except (OSError, OverflowError) as error:
        listening.close()
        way_out = "; --port 0 takes a free one" if isinstance(error, OSError) else ""
        raise ConfigError(f"cannot listen at {host}, port {port}: {error}{way_out}") from error
    return listening


def _greet(model: Model, host: str, listening: socket.socket) -> None:
    """Print the page's address, and a warning where others can reach it."""
    address, port = listening.getsockname()[:2]
    if not ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        print(
            f"onnxplain: warning: everybody who can reach {address} can use this server, without a "
            "password and unencrypted; leave --host out to keep it to this machine",
            file=sys.stderr,
        )
    shown = f"[{host}]" if ":" in host else host
    print(f"{Path(model.name).name}: http://{shown}:{port}/ (Ctrl-C stops)", flush=True)

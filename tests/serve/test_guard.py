"""Hostile clients and pages: foreign hosts and origins, bodies without end, bombs."""

from __future__ import annotations

import io
import socket
import struct
import time
import tracemalloc
import zlib
from collections.abc import Iterator

import httpx
import pytest
from PIL import Image

from onnxplain.model import Model
from onnxplain.serve.api import Limits
from onnxplain.serve.guard import host_name, is_address
from tests.serve.live import CAT, client, refused, serving, until, upload

MEGABYTE = 1 << 20


def picture(width: int, height: int, kind: str = "PNG") -> bytes:
    """Return a black picture as a file."""
    out = io.BytesIO()
    Image.new("RGB", (width, height)).save(out, kind)
    return out.getvalue()


def bomb(width: int, height: int) -> bytes:
    """Return a small PNG file that says it has so many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(MEGABYTE))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


# --- who asks -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "",
        "localhost@evil.example",
        "[::1",
    ],
)
def test_foreign_host_names_are_refused(host: str, http: httpx.Client) -> None:
    """A name that somebody else owns may point here (DNS rebinding)."""
    refused(http.get("/api/model", headers={"Host": host}), 400, "host")
    refused(http.get("/", headers={"Host": host}), 400)


@pytest.mark.parametrize(
    "host", ["localhost:8000", "LOCALHOST", "127.0.0.1", "[::1]:8000", "192.168.1.7:80"]
)
def test_our_own_names_are_answered(host: str, http: httpx.Client) -> None:
    assert http.get("/api/model", headers={"Host": host}).status_code == 200


def test_two_host_headers_are_refused(address: str) -> None:
    port = int(address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(b"GET /api/model HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n")
        assert b" 400 " in raw.recv(100)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_sites_cannot_post(headers: dict[str, str], http: httpx.Client) -> None:
    image = upload(http)
    refused(http.post("/api/images", content=CAT.read_bytes(), headers=headers), 403, "sites")
    question = {"image": image, "methods": ["gradient"]}
    refused(http.post("/api/jobs", json=question, headers=headers), 403)
    refused(http.delete("/api/jobs/x", headers=headers), 403)


def test_the_page_itself_can_post(http: httpx.Client, address: str) -> None:
    headers = {"Origin": address, "Sec-Fetch-Site": "same-origin"}
    assert http.post("/api/images", content=CAT.read_bytes(), headers=headers).status_code == 201


@pytest.mark.parametrize("path", ["/", "/api/model", "/api/nothing", "/api/jobs/x"])
def test_every_answer_tells_browsers_to_be_strict(path: str, http: httpx.Client) -> None:
    headers = http.get(path, headers={"Origin": "https://evil.example"}).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers or headers["server"] == "uvicorn"


def test_the_page_has_a_strict_policy(http: httpx.Client) -> None:
    page = http.get("/").text
    policy = page.partition('Content-Security-Policy" content="')[2].partition('"')[0]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "unsafe" not in policy


def test_there_is_no_generated_documentation(http: httpx.Client) -> None:
    for path in ("/docs", "/redoc", "/openapi.json"):
        refused(http.get(path), 404)


def test_host_names() -> None:
    assert host_name("Example.org.:80") == "example.org"
    assert host_name("[::1]:80") == "::1"
    assert is_address("::1")
    assert not is_address("1")


# --- what is uploaded -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"just a text file", "not a picture"),
        (b"\x93NUMPY\x01\x00", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not a picture"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not a picture"),
        (CAT.read_bytes()[:700], "complete"),
        (picture(1, 1), "1 x 1 pixels: too small"),
        (picture(2000, 3), "too small"),
        (bomb(60_000, 60_000), "too many pixels"),
        (bomb(10_000, 9_000), "10000 x 9000 pixels"),
        (bomb(20_000, 4_000), "decoded"),
    ],
    ids=["empty", "text", "npy", "eps", "svg", "cut", "1 pixel", "flat", "bomb", "large", "lies"],
)
def test_a_bad_upload(data: bytes, says: str, http: httpx.Client) -> None:
    answer = http.post("/api/images", content=data)
    refused(answer, 400 if not data else 422, says)
    upload(http)  # still serving


def test_a_bomb_takes_no_memory(http: httpx.Client) -> None:
    data = bomb(60_000, 60_000)
    tracemalloc.start()
    try:
        refused(http.post("/api/images", content=data), 422)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 50 * MEGABYTE


@pytest.mark.parametrize("announced", [True, False])
def test_uploads_are_counted_as_they_come(announced: bool, model: Model) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(30):
            yield bytes(MEGABYTE // 10)

    data = bytes(3 * MEGABYTE)
    with serving(model, Limits(upload=MEGABYTE)) as address, client(address) as http:
        answer = http.post("/api/images", content=data if announced else endless())
        refused(answer, 413, "at most 1 MB")
        just = CAT.read_bytes() + bytes(MEGABYTE - CAT.stat().st_size)
        upload(http, just)
        refused(http.post("/api/images", content=just + b"\0"), 413)


def test_a_question_is_bounded_too(http: httpx.Client) -> None:
    refused(http.post("/api/jobs", content=b" " * (2 * MEGABYTE)), 413)


def test_a_slow_upload_is_given_up(model: Model) -> None:
    def slow() -> Iterator[bytes]:
        for _ in range(20):
            yield b"x"
            time.sleep(0.1)

    with serving(model, Limits(seconds=0.3)) as address, client(address) as http:
        refused(http.post("/api/images", content=slow()), 408, "too long")


def test_only_so_many_upload_at_once(model: Model) -> None:
    head = b"POST /api/images HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"
    with serving(model, Limits(uploads=2)) as address, client(address) as http:
        port = int(address.rpartition(":")[2])
        held = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(2)]
        for raw in held:
            raw.sendall(head + b"x")

        def refuses() -> bool:
            answer = http.post("/api/images", content=CAT.read_bytes())
            if answer.status_code == 201:
                return False
            refused(answer, 503, "busy")
            assert int(answer.headers["retry-after"]) > 0
            return True

        until(refuses)
        for raw in held:
            raw.close()
        until(lambda: not refuses())  # clients that left made room

"""Who may call the server: hosts and origins checked, bodies bounded, browsers told to be strict.

A page anywhere on the web can make a browser send requests to 127.0.0.1. It may not read the answers (no
CORS header is ever sent), may not post (origin check), and may not pose as us by a name that it points at
127.0.0.1 (DNS rebinding: host check).
"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE = ("GET", "HEAD")
DRAINED = 4
"""Times the limit that is read of a body too large, and thrown away: then browsers show the answer."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
"""For everything but the page, which sets its own."""


class TooLarge(Exception):
    """A body exceeds its limit."""


class Guard:
    """ASGI middleware that refuses foreign hosts and origins, and adds `HEADERS` to every answer."""

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        """`names`: host names that are ours, lower case; bare IP addresses always are, nobody can own one."""
        self.app, self.names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with 400 or 403."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def strict(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                for name, value in {**HEADERS, "Content-Security-Policy": POLICY}.items():
                    out.setdefault(name, value)
            await send(message)

        status, refusal = self._refusal(scope["method"], headers)
        app = JSONResponse({"error": refusal}, status) if refusal else self.app
        await app(scope, receive, strict)

    def _refusal(self, method: str, headers: Headers) -> tuple[int, str]:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._ours(hosts[0]):
            return 400, "the server does not go by this host name"
        origin = headers.get("origin")
        site = headers.get("sec-fetch-site", "same-origin")
        foreign = origin is not None and origin.lower() not in (
            f"{scheme}://{hosts[0].lower()}" for scheme in ("http", "https")
        )
        if method not in SAFE and (foreign or site not in ("same-origin", "none")):
            return 403, "requests from other sites are refused"
        return 200, ""

    def _ours(self, host: str) -> bool:
        """Return whether a Host header names this server."""
        name = host_name(host)
        return name in self.names or is_address(name)


def host_name(host: str) -> str:
    """Return the name or address in a Host header, without the port, in lower case; "" where it has none."""
    if host.startswith("["):
        address, closed, _ = host[1:].partition("]")
        return address if closed else ""
    return host.partition(":")[0].lower().rstrip(".")


def is_address(name: str) -> bool:
    """Return whether a name is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def read_body(stream: AsyncIterator[bytes], limit: int) -> bytes:
    """Read a request's body of at most `limit` bytes, counted as they come; raises TooLarge."""
    parts, total = [], 0
    async for chunk in stream:
        total += len(chunk)
        if total <= limit:
            parts.append(chunk)
        else:
            parts.clear()
        if total > DRAINED * limit:
            break
    if total > limit:
        raise TooLarge
    return b"".join(parts)

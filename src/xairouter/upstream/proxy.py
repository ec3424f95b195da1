"""Through a proxy of the operator's to providers: a tunnel by CONNECT (RFC 9110 §9.3.6), TLS inside.

The proxy resolves the provider's name, so it, not this process, decides which addresses may be
reached. It sees host and port, and nothing of a request.
"""

import asyncio
import socket
from base64 import b64encode
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from xairouter.errors import ConfigError

_LONGEST_ANSWER = 16 * 1024


class TunnelError(OSError):
    """The proxy did not open a tunnel."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where the proxy is, and what it is told of who asks."""

    host: str
    port: int
    credentials: bytes | None = field(default=None, repr=False)

    @classmethod
    def of(cls, url: str) -> "Proxy":
        """From ``http://[user:password@]host:port``; raises ConfigError, which shows nothing of it."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host or not port or parts.scheme != "http" or parts.path not in ("", "/"):
            raise ConfigError(["XAIROUTER_PROVIDER_PROXY: give http://host:port."])
        if parts.username is None:
            return cls(host, port)
        words = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return cls(host, port, b"Basic " + b64encode(words.encode()))

    async def open_tunnel(self, opened: socket.socket, host: str, port: int) -> None:
        """Turn a connection to the proxy into one to a provider; raises TunnelError or OSError."""
        loop = asyncio.get_running_loop()
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        asked = b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n" % ((authority.encode("ascii"),) * 2)
        if self.credentials is not None:
            asked += b"proxy-authorization: " + self.credentials + b"\r\n"
        await loop.sock_sendall(opened, asked + b"\r\n")
        answer = b""
        while b"\r\n\r\n" not in answer:
            piece = await loop.sock_recv(opened, 4096)
            answer += piece
            if not piece or len(answer) > _LONGEST_ANSWER:
                raise TunnelError
        words = answer.split(b" ", 2)
        # Behind the answer the client speaks first: whatever stands there is not the provider's.
        if len(words) < 2 or words[1] != b"200" or not answer.endswith(b"\r\n\r\n"):
            raise TunnelError

"""What is used of uvicorn is bounded, tried at start, and missed with a sentence."""

import asyncio
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import uvicorn.protocols.http.flow_control as flow_control
import uvicorn.protocols.http.httptools_impl as httptools_impl
import uvicorn.server as uvicorn_server

from xairouter.errors import ConfigError
from xairouter.gateway import serving
from xairouter.gateway.edge import UNLIMITED, EdgeProtocol, protocol_class
from xairouter.gateway.link import LINK

ROOT = Path(__file__).parents[3]
OURS = protocol_class(UNLIMITED)


async def _said(protocol: type[asyncio.Protocol] = OURS) -> str:
    with pytest.raises(ConfigError) as caught:
        await serving.check_server(protocol, LINK)
    said = str(caught.value)
    assert re.search(r"uvicorn \d[\d.]* \(", said)
    assert said.endswith("); install 0.54.")
    return said


async def test_the_installed_server_passes_its_own_check():
    await serving.check_server(OURS, LINK)


class Silent(EdgeProtocol):
    edge_limits = UNLIMITED

    def data_received(self, data: bytes) -> None:
        pass


class Renamed(EdgeProtocol):
    edge_limits = UNLIMITED

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        raise AttributeError("'EdgeProtocol' object has no attribute 'timeout_keep_alive_task'")


class Strange(EdgeProtocol):
    """Answers the last request otherwise than expected."""

    edge_limits = UNLIMITED

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.write(b"HTTP/1.1 200 OK\r\n")


async def test_a_server_that_does_not_answer_in_time_is_a_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(serving, "CHECK_SECONDS", 0.05)
    assert "(TimeoutError: )" in await _said(Silent)


async def test_a_server_that_behaves_otherwise_is_a_sentence():
    assert "(AttributeError: 'EdgeProtocol' object has no attribute" in await _said(Renamed)
    assert "(its replies are not the expected ones)" in await _said(Strange)


async def test_whatever_is_used_of_a_class_is_missed_by_its_name():
    for kind, names in serving.USED.items():
        for name in names:
            with pytest.MonkeyPatch.context() as without:
                for home in kind.__mro__:
                    if name in vars(home):
                        without.delattr(home, name)
                assert f"(it has no {kind.__name__}.{name})" in await _said(), name


class Unready(uvicorn.Server):
    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.listeners = self.__dict__.pop("servers")


async def test_a_field_of_the_server_that_is_called_otherwise_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(serving, "Server", Unready)
    assert "(AttributeError: 'Unready' object has no attribute 'servers')" in await _said()


async def test_a_release_that_was_never_tried_is_told(monkeypatch: pytest.MonkeyPatch):
    for version in ("0.55.0", "0.61.0", "1.0.0", "0.5.40"):
        monkeypatch.setattr(serving, "__version__", version)
        assert "(it was never tried with it)" in await _said()


def test_whatever_is_imported_of_uvicorn_is_missed_with_a_sentence(monkeypatch: pytest.MonkeyPatch):
    homes = {
        uvicorn: ("Config", "Server", "__version__"),
        flow_control: ("FlowControl",),
        httptools_impl: ("STATUS_LINE", "HttpToolsProtocol", "RequestResponseCycle"),
        uvicorn_server: ("ServerState",),
    }
    text = Path(str(serving.__file__)).read_text()
    imported = re.findall(r"^    from uvicorn.*? import (?:\(([^)]*)\)|(.*))$", text, re.M)
    listed = {name.strip() for pair in imported for name in "".join(pair).split(",")} - {""}
    assert listed == {name for names in homes.values() for name in names}
    spec = importlib.util.spec_from_file_location("serving_anew", str(serving.__file__))
    assert spec is not None
    assert spec.loader is not None
    for home, names in homes.items():
        for name in names:
            anew = importlib.util.module_from_spec(spec)
            with pytest.MonkeyPatch.context() as without:
                without.delattr(home, name)
                with pytest.raises(ConfigError) as caught:
                    spec.loader.exec_module(anew)
            assert f"lacks what the server needs (cannot import name '{name}'" in str(caught.value)


def test_a_start_without_what_is_used_is_a_sentence_and_no_traceback(tmp_path: Path):
    """As ``serve`` meets it: the command itself."""
    script = (
        "import sys, uvicorn; del uvicorn.Server;"
        "sys.argv = ['xairouter', 'serve', '--port', '0', '--data-dir', sys.argv[1]];"
        "from xairouter.cli import main; main()"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 1, ran.stderr
    assert "The installed `uvicorn` lacks what the server needs" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_the_package_admits_the_tried_releases_alone():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    bounds: dict[str, Any] = {
        re.split(r"[<>=]", line)[0]: line
        for line in declared
        if re.match(r"uvicorn|httptools", line)
    }
    assert bounds == {"uvicorn": "uvicorn>=0.54,<0.55", "httptools": "httptools>=0.9,<0.10"}
    assert bounds["uvicorn"].startswith(f"uvicorn>={serving.TRIED},")

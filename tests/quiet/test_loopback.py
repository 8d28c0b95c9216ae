"""What is on this machine is reached past every proxy, by each library that we build on."""

from __future__ import annotations

import http.server
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facemorph_core.machine.loopback import HOSTS, past_the_proxy
from simulations.activation import extend_activation
from simulations.run import flower_environment
from tests.proxies import proxy

NAMES = st.text("abc.*1, ", max_size=12)
ASKED_BY_ALL = """
import sys, urllib.request
import httpx, requests
for url in sys.argv[1:]:
    assert requests.get(url, timeout=300).text == "here"
    assert httpx.get(url, timeout=300).text == "here"
    if "::1" not in url:  # for urllib it would have to be [::1], which breaks httpx
        with urllib.request.urlopen(url, timeout=300) as answer:
            assert answer.read() == b"here"
"""


class Here(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"here")

    def log_message(self, *said: object) -> None:
        pass


class OverIPv6(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6


@pytest.fixture
def urls() -> Iterator[list[str]]:
    """The same small server under each name of this machine that it has."""
    servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Here)]
    port = servers[0].server_port
    found = [f"http://127.0.0.1:{port}/", f"http://localhost:{port}/"]
    try:
        servers.append(OverIPv6(("::1", 0), Here))
        found.append(f"http://[::1]:{servers[1].server_port}/")
    except OSError:
        pass  # a machine without IPv6
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("said", [{}, {"no_proxy": None, "NO_PROXY": "intra.example.org"}])
def test_every_library_reaches_this_machine_past_a_proxy(said, urls, tmp_path, monkeypatch):
    with proxy() as leading_out:
        for name, value in (leading_out.environment | said).items():
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)
        asked = subprocess.run(
            [sys.executable, "-c", ASKED_BY_ALL, *urls],
            env=flower_environment(tmp_path),
            capture_output=True,
            text=True,
            check=False,
        )
    assert asked.returncode == 0, asked.stderr
    assert leading_out.asked == []


def test_a_proxy_that_flower_cannot_even_name_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5h://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    made = flower_environment(tmp_path)
    assert "ALL_PROXY" not in made
    assert made["https_proxy"] == "http://127.0.0.1:9"


def names_in(said: str) -> set[str]:
    return {name.strip() for name in said.split(",")} - {""}


@given(lower=NAMES, upper=NAMES, own=NAMES)
def test_what_the_user_said_stays(lower, upper, own):
    before = {"no_proxy": lower, "NO_PROXY": upper, "no_grpc_proxy": own, "other": "x"}
    after = past_the_proxy(before)
    assert past_the_proxy(after) == after
    assert after["other"] == "x"
    for name, said in before.items():
        assert names_in(said) <= names_in(after[name])
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        assert after[name] == "*" or names_in(after[name]) >= set(HOSTS)


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"NO_PROXY": "intra"},
        {"no_proxy": "intra,localhost", "NO_PROXY": "other"},
        {"no_proxy": "*"},
        {"no_grpc_proxy": "intra; echo 'x'", "no_proxy": "other"},
        {"no_grpc_proxy": ""},
    ],
)
def test_the_activated_shell_says_the_same(said, tmp_path: Path):
    script = tmp_path / ".venv" / "bin" / "activate"
    script.parent.mkdir(parents=True)
    script.write_text("")
    extend_activation(tmp_path / ".venv")
    twice = (
        f'. {script}; . {script}; echo "$no_proxy"; echo "$NO_PROXY"; echo "${{no_grpc_proxy-}}"'
    )
    shown = subprocess.run(
        ["sh", "-uc", twice],
        env={"PATH": os.environ["PATH"]} | said,
        capture_output=True,
        text=True,
        check=True,
    )
    expected = past_the_proxy(said)
    names = ("no_proxy", "NO_PROXY", "no_grpc_proxy")
    assert shown.stdout.splitlines() == [expected.get(name, "") for name in names]

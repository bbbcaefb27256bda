"""A head is looked at before it is trusted: who answers, whether it asks for a token, and which versions it runs.

The servers here answer as heads do that cannot be started beside this Ray: open ones, other versions, other programs.
"""

import json
import platform
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from typing import Any

import pytest

from orchestrator.cluster import configure

configure()

from orchestrator.jobs.head import Head, HeadError, compare_versions  # noqa: E402 - Ray reads its settings when imported
from orchestrator.jobs.token import TokenError  # noqa: E402

TOKEN = "a-token-for-this-test"


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Any = self.server
        server.asked.append((self.path, self.headers.get("Authorization")))
        status, body = server.answers.get(self.path, (404, {}))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.answers: dict[str, tuple[int, Any]] = {"/api/authentication_mode": (200, {"authentication_mode": "token"})}
        self.asked: list[tuple[str, str | None]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_one_that_asks_for_no_token_is_sent_none(server: Server) -> None:
    server.answers["/api/authentication_mode"] = (200, {"authentication_mode": "disabled"})
    with pytest.raises(HeadError, match="asks for no token") as refused:
        Head(server.url)
    assert "start its head and nodes with RAY_AUTH_MODE=token" in str(refused.value)
    assert server.asked == [("/api/authentication_mode", None)]


def test_one_of_another_version_is_refused_naming_both(server: Server) -> None:
    there = {"rayVersion": "2.50.1", "pythonVersion": "3.10.4"}
    server.answers["/api/v0/cluster_metadata"] = (200, {"data": there})
    with pytest.raises(HeadError) as refused:
        Head(server.url)
    assert f"Ray 2.50.1 there, {version('ray')} here" in str(refused.value)
    assert f"Python 3.10.4 there, {platform.python_version()} here" in str(refused.value)


def test_a_last_number_of_python_makes_no_difference() -> None:
    major, minor, _ = platform.python_version_tuple()
    compare_versions("http://head:8265", version("ray"), f"{major}.{minor}.99")
    with pytest.raises(HeadError, match="Python"):
        compare_versions("http://head:8265", version("ray"), f"{major}.{int(minor) + 1}.0")


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_token_is_told_without_showing_it(server: Server, status: int) -> None:
    server.answers["/api/v0/cluster_metadata"] = (status, {})
    with pytest.raises(TokenError, match=r"does not take the token in \$RAY_AUTH_TOKEN") as refused:
        Head(server.url)
    assert TOKEN not in str(refused.value)
    assert server.asked[-1] == ("/api/v0/cluster_metadata", f"Bearer {TOKEN}")


@pytest.mark.parametrize("answer", [(404, {}), (200, {"hello": "world"}), (200, []), (500, {})])
def test_another_program_is_no_head(server: Server, answer: tuple[int, Any]) -> None:
    server.answers["/api/authentication_mode"] = answer
    with pytest.raises(HeadError, match="not as Ray's"):
        Head(server.url)


def test_nothing_there_is_said_at_once(server: Server) -> None:
    server.shutdown()
    server.server_close()
    with pytest.raises(HeadError, match="does not answer"):
        Head(server.url)


@pytest.mark.parametrize(
    "address",
    ["head:8265", "ray://head:10001", "http://", "http://head:port", "http://user:word@head", "http://head/x"],
)
def test_addresses_are_the_dashboards(server: Server, address: str) -> None:
    with pytest.raises(HeadError, match="should be http://HOST:8265") as refused:
        Head(address)
    assert "word" not in str(refused.value)

"""The head of a remote cluster: reached, authenticated, and of the same versions, before anything is asked of it."""

import asyncio
import logging
import os
import platform
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from orchestrator.cluster import Node
from orchestrator.errors import UserError
from orchestrator.jobs.job import Job, read_jobs
from orchestrator.jobs.token import Token, TokenError, find_token

T = TypeVar("T")

_SECONDS = 20.0  # for an answer
_OVERRIDES = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")  # Ray lets them win over an address that is given


class HeadError(UserError):
    """A head that cannot be used: not there, not Ray's, open to anyone, or of other versions."""


class IdTakenError(Exception):
    """There is a job of this id."""


class Head:
    """A cluster's head, by the address of its dashboard. Opening it checks all that can be checked beforehand.

    Raises TokenError where there is no token or a wrong one, and HeadError for all else.
    """

    def __init__(self, address: str):
        self.address = _checked(address)
        self._token = find_token(self.address)
        self._refuse_open()
        compare_versions(self.address, *self._versions())
        before = {name: os.environ.pop(name) for name in _OVERRIDES if name in os.environ}
        try:
            self._client = self._ask(lambda: JobSubmissionClient(self.address, headers=self._token.headers()))
        finally:
            os.environ.update(before)
        for handler in logging.getLogger("ray").handlers:
            handler.setLevel(logging.WARNING)  # its modules tell of each upload and connection

    def listed(self) -> list[Job]:
        """All jobs that medoid has sent there since the cluster started; the latest first."""
        return read_jobs(self._ask(self._client.list_jobs))

    def submit(
        self, identity: str, command: str, folder: Path, settings: dict[str, str], noted: dict[str, str]
    ) -> None:
        """Send a folder, and let a shell command run in it there with these environment variables.

        Raises IdTakenError where there is a job of this id already.
        """
        environment = {"working_dir": str(folder), "env_vars": settings}
        try:
            self._client.submit_job(entrypoint=command, submission_id=identity, runtime_env=environment, metadata=noted)
        except RuntimeError as error:
            if f"{identity} already exists" in str(error):
                raise IdTakenError(identity) from None
            raise self._failed(error) from None
        except (AuthenticationError, requests.RequestException) as error:
            raise self._failed(error) from None

    def stop(self, identity: str) -> None:
        """Let a job's driver be sent SIGTERM. It has not ended when this returns."""
        self._ask(lambda: self._client.stop_job(identity))

    def log(self, identity: str) -> str:
        """All that a job's driver has printed so far."""
        return self._ask(lambda: self._client.get_job_logs(identity))

    def follow(self, identity: str) -> Iterator[str]:
        """What a job's driver has printed, and what it prints until it ends, in pieces as they come."""
        pieces = self._client.tail_job_logs(identity)
        with asyncio.Runner() as runner:
            while True:
                try:
                    yield runner.run(anext(pieces))
                except StopAsyncIteration:
                    return
                except (RuntimeError, aiohttp.ClientError) as error:
                    raise self._failed(error) from None

    def nodes(self) -> list[Node]:
        """The nodes that are alive, with all that they offer, whoever uses it now."""
        found = self._get("/api/v0/nodes?detail=1&limit=10000", "data", "result", "result")
        alive = (node["resources_total"] for node in found if node["state"] == "ALIVE")
        return [Node(resources.get("CPU", 0.0), resources.get("GPU", 0.0)) for resources in alive]

    def _refuse_open(self) -> None:
        """A cluster that asks for no token lets anyone on its network run anything: nothing is sent there."""
        mode = self._get("/api/authentication_mode", "authentication_mode", authorized=False)
        if mode != "token":
            raise HeadError(
                f"{self.address} asks for no token (authentication mode {mode}): start its head and nodes with "
                "RAY_AUTH_MODE=token"
            )

    def _versions(self) -> tuple[str, str]:
        """Ray's and Python's there."""
        path = "/api/v0/cluster_metadata"
        return self._get(path, "data", "rayVersion"), self._get(path, "data", "pythonVersion")

    def _ask(self, question: Callable[[], T]) -> T:
        try:
            return question()
        except (AuthenticationError, ConnectionError, RuntimeError, requests.RequestException) as error:
            raise self._failed(error) from None

    def _failed(self, error: Exception) -> UserError:
        if isinstance(error, AuthenticationError):
            return refused_token(self.address, self._token)
        said = str(error).strip().splitlines() or [type(error).__name__]
        return HeadError(f"{self.address}: {said[-1]}")  # of a trace from there, the last line

    def _get(self, path: str, *keys: str, authorized: bool = True) -> Any:
        """What the dashboard answers, and of that what lies under these keys."""
        headers = self._token.headers() if authorized else {}
        try:
            answer = requests.get(self.address + path, headers=headers, timeout=_SECONDS)
        except requests.exceptions.SSLError:
            raise HeadError(
                f"{self.address} has no certificate that is trusted here: name its authority's in REQUESTS_CA_BUNDLE"
            ) from None
        except (requests.ConnectionError, requests.Timeout):
            raise HeadError(
                f"{self.address} does not answer: is it the dashboard's address (port 8265), and reachable from here?"
            ) from None
        if answer.status_code in (401, 403):
            raise refused_token(self.address, self._token)
        try:
            answer.raise_for_status()
            found = answer.json()
            for key in keys:
                found = found[key]
        except (requests.HTTPError, ValueError, KeyError, TypeError):
            raise HeadError(
                f"{self.address} answers {path.partition('?')[0]} with status {answer.status_code}, and not as Ray's "
                f"dashboard does; Ray {version('ray')} is asked for"
            ) from None
        return found


def refused_token(address: str, token: Token) -> TokenError:
    """What to say where a cluster does not take the token."""
    return TokenError(
        f"{address} does not take the token in {token.source}: use the one that its head was started with "
        "(RAY_AUTH_TOKEN, a file that RAY_AUTH_TOKEN_PATH names, or ~/.ray/auth_token)"
    )


def compare_versions(address: str, ray_there: str, python_there: str) -> None:
    """Raise HeadError where a cluster's Ray, or its Python's first two numbers, are others than here.

    A spec is checked here and run there: what was checked must be what runs.
    """
    ray_here, python_here = version("ray"), platform.python_version()
    wrong = []
    if ray_here != ray_there:
        wrong.append(f"Ray {ray_there} there, {ray_here} here")
    if python_here.split(".")[:2] != python_there.split(".")[:2]:
        wrong.append(f"Python {python_there} there, {python_here} here")
    if wrong:
        raise HeadError(f"{address} runs other versions: {'; '.join(wrong)}. Use the cluster's here")


def _checked(address: str) -> str:
    try:
        parts = urlsplit(address)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        if good and not (parts.username or parts.password or parts.query or parts.fragment) and parts.path in ("", "/"):
            return address.rstrip("/")
    except ValueError:
        pass  # a port that is no number
    raise HeadError("--address: should be http://HOST:8265 or https://HOST, the address of the cluster's dashboard")

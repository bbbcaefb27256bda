"""Servers that many tests share: each starts with the first test that asks for it, and ends with the last test."""

import secrets
from collections.abc import Iterator

import pytest

from servers.mlflow_server import MlflowServer
from servers.postgres import Postgres
from servers.s3 import S3Server


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server. Who stops it starts it again."""
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3_keys(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The S3 server, with its keys in the environment of this process and those it starts."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture(scope="session")
def mlflow_server(s3_server: S3Server) -> Iterator[MlflowServer]:
    """MLflow on PostgreSQL, with its files in S3 and a password. Who stops it starts it again."""
    environment = s3_server.environment | {"MLFLOW_S3_ENDPOINT_URL": s3_server.endpoint}
    with (
        Postgres() as database,
        MlflowServer(
            database, f"s3://{s3_server.bucket}/mlflow", environment, password=secrets.token_hex(12)
        ) as server,
    ):
        yield server


@pytest.fixture
def mlflow_user(mlflow_server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> MlflowServer:
    """The MLflow server, with its name and password in the environment of this process and those it starts."""
    for name, value in mlflow_server.credentials.items():
        monkeypatch.setenv(name, value)
    return mlflow_server

"""A real S3 server for tests: SeaweedFS, in processes of its own, on ports and in a folder of its own."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

HOST = "127.0.0.1"
STARTUP = 90.0  # seconds; it takes 3 to 8
_GRPC = 10_000  # what SeaweedFS adds to a port for its own traffic
_PARTS = ("master", "volume", "filer", "s3")


class S3Server:
    """An S3 server with one bucket, for as long as the context lasts. It can be stopped and started again.

    `environment` is what a client's process needs: the keys, and no other source of credentials. Wrong keys are
    refused, and buckets are not made by writing into them.
    """

    bucket = "medoid-test"

    def __init__(self, folder: Path):
        self.folder = folder
        self.ports = dict(zip(_PARTS, _free_ports(len(_PARTS)), strict=True))
        self.endpoint = f"http://{HOST}:{self.ports['s3']}"
        self.environment = {
            "AWS_ACCESS_KEY_ID": secrets.token_hex(8),
            "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16),
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(folder / "none"),
            "AWS_SHARED_CREDENTIALS_FILE": str(folder / "none"),
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server, with what it held when it was stopped, and wait until it answers."""
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        (self.folder / "s3.json").write_text(json.dumps(self._identities()))
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                [*self._command(), *self._options()],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._await_bucket()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Kill the server, whatever it is doing."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def unfinished_uploads(self, prefix: str) -> list[dict[str, Any]]:
        """Uploads in parts that nobody has completed or aborted."""
        pages = self.client().get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=prefix)
        return [upload for page in pages for upload in page.get("Uploads", ())]

    def client(self, **options: Any) -> Any:
        """A boto3 client with the right keys, or with others; it gives up soon."""
        keys = {
            "aws_access_key_id": self.environment["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": self.environment["AWS_SECRET_ACCESS_KEY"],
            "region_name": "us-east-1",
        }
        config = Config(connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 1})
        return boto3.client("s3", endpoint_url=self.endpoint, config=config, **{**keys, **options})

    def keys(self, prefix: str = "") -> list[str]:
        """What is in the bucket."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", ())]

    def __enter__(self) -> "S3Server":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _command(self) -> list[str]:
        return [str(Path(sys.executable).with_name("weed")), "-logtostderr=true", "server", "-s3"]

    def _options(self) -> list[str]:
        options = {f"{part}.port": port for part, port in self.ports.items()}
        options |= {f"{part}.port.grpc": port + _GRPC for part, port in self.ports.items()}
        options |= {
            "ip": HOST,
            "ip.bind": HOST,
            "dir": self.folder / "data",
            "s3.config": self.folder / "s3.json",
            "s3.autoCreateBucket": "false",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "filer.localSocket": self.folder / "filer.sock",
            "s3.localSocket": self.folder / "s3.sock",
            "master.electionTimeout": "1s",  # of 10, which a restart would wait for
            "master.telemetry": "false",
            "master.volumeSizeLimitMB": 64,
            "volume.max": 64,  # a bucket takes some of its own
        }
        return [f"-{name}={value}" for name, value in options.items()]

    def _identities(self) -> dict[str, Any]:
        keys = {
            "accessKey": self.environment["AWS_ACCESS_KEY_ID"],
            "secretKey": self.environment["AWS_SECRET_ACCESS_KEY"],
        }
        return {"identities": [{"name": "medoid", "credentials": [keys], "actions": ["Admin"]}]}

    def _await_bucket(self) -> None:
        assert self.process is not None
        client, end, last = self.client(), time.monotonic() + STARTUP, ""
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                self._make_bucket(client)
            except (BotoCoreError, ClientError) as error:
                last = str(error)
                time.sleep(0.1)
            else:
                return
        log = (self.folder / "server.log").read_text(errors="replace").splitlines()[-10:]
        raise RuntimeError("\n".join([f"SeaweedFS does not come up at {self.endpoint}: {last}", *log]))

    def _make_bucket(self, client: Any) -> None:
        """It can be written to some time after the server answers: when its volumes are there."""
        with suppress(client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou):
            client.create_bucket(Bucket=self.bucket)
        client.put_object(Bucket=self.bucket, Key="probe", Body=b"1")
        client.delete_object(Bucket=self.bucket, Key="probe")


def _free_ports(count: int) -> list[int]:
    """Ports that are free, as are those SeaweedFS derives from them."""
    found: list[int] = []
    while len(found) < count:
        port = secrets.randbelow(30_000) + 20_000
        if port not in found and _free(port) and _free(port + _GRPC):
            found.append(port)
    return found


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True

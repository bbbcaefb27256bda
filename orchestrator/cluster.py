"""The Ray cluster a sweep runs on: starting or joining it, and what fits into it."""

import os
import socket
import sys
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import UserError
from orchestrator.jobs.token import TokenError, find_token
from specs.resources import Resources

_ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",  # set, so that Ray neither chooses nor warns
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is the command line's to handle
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # not every result of a trial has a test accuracy
    "RAY_AIR_NEW_OUTPUT": "0",  # its progress table would stand beside ours
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # resuming is by content hash, not by Tune's own state
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # specs name data relative to where the user stands
}
_PATIENCE = 10.0  # seconds for a cluster to take a connection
_ATTEMPTS = 3  # to start Ray


class ClusterError(UserError):
    """A cluster that is not there."""


class PlacementError(UserError):
    """A request that can never be placed on this cluster."""


@dataclass(frozen=True)
class Node:
    """What one node offers."""

    cpus: float
    gpus: float


def configure() -> None:
    """Set what Ray and its libraries read from the environment, once, when they are imported.

    To be called before anything imports ray (MLflow does, if it is there). Raises RuntimeError where it is too late.
    """
    if "ray" in sys.modules and "RAY_AUTH_MODE" not in os.environ:
        raise RuntimeError("Ray was imported without RAY_AUTH_MODE in the environment; call configure() first")
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def connect(address: str | None, namespace: str | None = None) -> None:
    """Start a cluster on this machine, or join the one at `address` (`auto`: the one this node is in).

    What is named there is found within `namespace` only: sweeps that share a cluster do not see each other's.

    Token authentication is always on. A local cluster's token is Ray's own, in ~/.ray/auth_token.
    Raises TokenError where it is switched off or there is no token for a cluster, ClusterError where none answers or
    none can be started.
    """
    configure()
    if address is not None:
        find_token(address)
        _knock(address)
    elif (mode := os.environ["RAY_AUTH_MODE"]).lower() != "token":
        raise TokenError(f"RAY_AUTH_MODE = {mode!r}: a cluster is started with token authentication only; unset it")
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    try:
        if address is None:
            _start(namespace, options)
        else:
            ray.init(address=address, namespace=namespace, **options)
    except ray.exceptions.AuthenticationError as error:
        raise TokenError(f"the cluster at {address} does not take the token: {error}") from None
    except ConnectionError as error:
        raise ClusterError(f"no cluster answers at {address}: {error}") from None


def _start(namespace: str | None, options: dict[str, Any]) -> None:
    """Start a cluster: again where it fails, since a busy machine may need more than the 30 s that Ray gives itself."""
    import ray

    for attempt in range(1, _ATTEMPTS + 1):
        try:
            ray.init(address="local", namespace=namespace, include_dashboard=False, **options)
            return
        except ray.exceptions.AuthenticationError:
            raise
        except Exception as error:  # Ray has no type for it
            ray.shutdown()
            if attempt == _ATTEMPTS:
                raise ClusterError(f"Ray does not start here, tried {_ATTEMPTS} times: {error}") from error


def _knock(address: str) -> None:
    """Ray itself tries an address at which nothing listens for more than ten minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return  # auto
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except OSError as error:
        raise ClusterError(f"no cluster answers at {address}: {error}") from None


def nodes() -> list[Node]:
    """The nodes that are alive."""
    import ray

    found = []
    for node in ray.nodes():
        if node["Alive"]:
            resources = node["Resources"]
            found.append(Node(resources.get("CPU", 0.0), resources.get("GPU", 0.0)))
    return found


def concurrent_trials(resources: Resources, cluster: list[Node]) -> int:
    """How many trials with these resources fit at once. Raises PlacementError where none does, ever."""
    workers = 0
    for node in cluster:
        fits = node.cpus // resources.cpus
        if resources.gpus:
            fits = min(fits, node.gpus // resources.gpus)
        workers += int(fits)
    if workers < resources.workers:
        raise PlacementError(
            f"resources: a trial asks for workers = {resources.workers} with cpus = {resources.cpus} and "
            f"gpus = {resources.gpus} each, of which {workers} fit; the cluster has {_listed(cluster)}"
        )
    return workers // resources.workers


def describe(cluster: list[Node]) -> str:
    """A cluster in words, such as `2 nodes with 16 CPUs and 4 GPUs`."""
    count = f"{len(cluster)} node{'s' if len(cluster) != 1 else ''}"
    gpus = sum(node.gpus for node in cluster)
    return f"{count} with {sum(node.cpus for node in cluster):g} CPUs" + (f" and {gpus:g} GPUs" if gpus else "")


def _listed(cluster: list[Node]) -> str:
    return ", ".join(f"{node.cpus:g} CPUs + {node.gpus:g} GPUs" for node in cluster) or "no nodes"


def disconnect() -> None:
    """Leave the cluster; one that `connect` started ends."""
    import ray

    ray.shutdown()

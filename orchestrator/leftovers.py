"""What killed drivers and trials of a sweep left on a cluster."""

import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, PlacementGroupID, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from ray.util.state import list_actors, list_placement_groups
from ray.util.state.exception import RayStateApiException

log = logging.getLogger(__name__)
_MOST = 10_000  # entries that Ray's state API lists
_CLEANER = "PlacementGroupCleaner"  # a detached actor of Ray Train's, one for each trial with several workers
_PATIENCE = 5.0  # seconds in which a cleaner that knows that it is needed no more has gone


def release_leftovers(namespace: str) -> None:
    """Free what earlier drivers of the sweep with this namespace still hold. For its sole writer, once connected.

    Ray frees a job's reservations when the job ends; one that a trial makes in that very moment stays for ever.
    """
    end_cleaners(namespace)
    here = ray.get_runtime_context()
    actors = _listed(list_actors, [("ray_namespace", "=", namespace)])
    groups = _listed(list_placement_groups, [("state", "!=", "REMOVED")])
    ours = {actor.job_id for actor in actors} - {here.get_job_id()}
    for group in groups:
        if group.creator_job_id in ours:
            remove_placement_group(PlacementGroup(PlacementGroupID.from_hex(group.placement_group_id)))


def end_cleaners(namespace: str) -> None:
    """End the cleaners that nobody will. For the sole writer of the sweep, while none of its trials runs.

    A cleaner watches its trial's controller from when this says so: one whose controller was killed before waits for
    ever. Ray gives no handle of it, so its process is killed where it is.
    """
    wanted = [("ray_namespace", "=", namespace), ("class_name", "=", _CLEANER), ("state", "=", "ALIVE")]
    deadline = time.monotonic() + _PATIENCE
    while (left := _listed(list_actors, wanted)) and time.monotonic() < deadline:
        time.sleep(0.5)
    for actor in left:
        where = NodeAffinitySchedulingStrategy(actor.node_id, soft=False)
        try:
            ray.get(_kill.options(num_cpus=0, scheduling_strategy=where).remote(actor.pid), timeout=30)
        except ray.exceptions.RayError as error:
            log.warning("an idle %s of Ray Train's is left on node %s: %s", _CLEANER, actor.node_id, error)


@ray.remote(max_retries=0)
def _kill(process: int) -> None:
    try:
        title = Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return  # gone by itself
    if _CLEANER.encode() in title:
        os.kill(process, signal.SIGKILL)


def _listed(what: Callable[..., list[Any]], filters: list[tuple[str, str, str]]) -> list[Any]:
    """What Ray's state API lists; nothing, with a warning, where it does not answer."""
    address = ray.get_runtime_context().gcs_address
    try:
        return what(address=address, filters=filters, limit=_MOST, detail=True, raise_on_missing_output=False)
    except (RayStateApiException, ConnectionError, ValueError) as error:
        log.warning("what earlier runs of this sweep left on the cluster could not be looked up: %s", error)
        return []

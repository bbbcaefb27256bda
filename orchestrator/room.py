"""What a trial asks the cluster for, and how many of a sweep go at once, while nodes join and are lost."""

import time
from collections.abc import Callable
from typing import Any

from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.search.basic_variant import BasicVariantGenerator

from orchestrator.cluster import Node, PlacementError, concurrent_trials, nodes
from specs.resources import Resources

_INTERVAL = 5.0  # seconds between two looks at the cluster
PATIENCE = 600.0  # seconds that a lost node is waited for, where nothing that is left fits without it


def bundles(resources: Resources) -> tune.PlacementGroupFactory:
    """What Tune reserves for a trial: it lies here, since actors call it too, and need not load all of the sweep.

    One worker trains in the trial's own actor; for several, Train reserves resources, and the actor only waits.
    """
    if resources.workers > 1:
        return tune.PlacementGroupFactory([{"memory": 1}])  # Tune wants something above zero
    bundle: dict[str, float] = {"CPU": resources.cpus}
    if resources.gpus:
        bundle["GPU"] = resources.gpus
    return tune.PlacementGroupFactory([bundle])


class Room(tune.Callback):
    """Lets as many trials go as the cluster has room for now, and gives up where what is left fits nowhere.

    Trials of several workers reserve nothing through Tune: Ray Train places their workers, and waits until they fit.
    So the number of trials that go is bounded by how many of the kind that fits most often would fit.

    Raises PlacementError, out of the sweep, once trials that the cluster has no room for are the only ones left, and
    no node has come for `patience` seconds. They can be gone on with.
    """

    def __init__(
        self,
        resources: dict[str, Resources],
        search: BasicVariantGenerator,
        notify: Callable[[str], None],
        *,
        patience: float = PATIENCE,
        cluster: Callable[[], list[Node]] = nodes,
    ):
        self.resources = resources
        self.search = search
        self.notify = notify
        self.patience = patience
        self.cluster = cluster
        self.next_look = 0.0
        self.stuck_since: float | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for a restore of its own, which is never used

    def on_step_begin(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        now = time.monotonic()
        if now < self.next_look:
            return
        self.next_look = now + _INTERVAL
        self.look(now, {trial.config["trial"] for trial in trials if trial.is_finished()})

    def look(self, now: float, ended: set[str]) -> None:
        """Take in what the cluster is like at a time, in seconds, with these trials ended."""
        there = self.cluster()
        wanting: dict[Resources, PlacementError] = {}
        most = 1
        for kind in set(self.resources.values()):
            try:
                most = max(most, concurrent_trials(kind, there))
            except PlacementError as error:
                wanting[kind] = error
        self.search.max_concurrent = most if any(kind.workers > 1 for kind in self.resources.values()) else 0
        left = {self.resources[trial] for trial in self.resources.keys() - ended}
        if not left or left - wanting.keys():
            self.stuck_since = None
            return
        if self.stuck_since is None:
            self.stuck_since = now
            self.notify(
                f"a node is lost without which no remaining trial fits; waiting {self.patience:.0f} s for another"
            )
        elif now - self.stuck_since > self.patience:
            raise PlacementError(
                f"{wanting[next(iter(left))]}; a node was lost, and none came for {self.patience:.0f} s: what is "
                "finished is kept, and the same command goes on with the rest"
            )

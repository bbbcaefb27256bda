"""`medoid plan`: for this machine, for the cluster this node is in, or for one that only a job can look at."""

import os
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from orchestrator.cluster import Node, PlacementError, concurrent_trials
from orchestrator.errors import UserError
from orchestrator.estimates import Estimate, Outlook
from orchestrator.preparation import Library, Prepared, prepare
from specs import SweepSpec
from specs.resources import Resources
from workers.naming import unique_name

_PATIENCE = 120.0  # seconds for room for one trial


class BusyError(UserError):
    """A cluster that has no room to calibrate in."""


def outlook_on(sweep: SweepSpec, address: str | None, console: Console) -> Outlook:
    """What a sweep takes. `address`: None for this machine, `auto`, or the address of a cluster's dashboard.

    Raises PlacementError where a trial can never be placed there, and BusyError where none fits now.
    """
    if address is not None and address != "auto":
        from orchestrator.jobs.outlook import outlook_there

        return outlook_there(sweep, address, console)
    library = Library()
    prepared = prepare(sweep, library, notify=lambda text: None)
    if address is None:
        from orchestrator.plan import estimate, this_machine

        found = estimate(prepared, library)
        for remark in _misplaced(prepared, this_machine()):
            console.print(f"note: medoid run is refused on this machine: {remark}", style="yellow", soft_wrap=True)
        return Outlook(sweep.name, "this machine", tuple(found.values()))
    return _on_cluster(prepared, library)


def _misplaced(prepared: Prepared, here: Node) -> list[str]:
    """Why trials cannot be placed here, once for each kind."""
    found = []
    for kind in dict.fromkeys(trial.spec.resources for trial in prepared.trials):
        try:
            concurrent_trials(kind, [here])
        except PlacementError as error:
            found.append(str(error))
    return found


def _on_cluster(prepared: Prepared, library: Library) -> Outlook:
    """Calibrated in the room of a trial, on a node where trials would run."""
    from orchestrator.cluster import configure, connect, describe, disconnect, nodes

    configure()
    connect("auto", unique_name(prepared.storage.uri))
    try:
        import ray

        from orchestrator.plan import estimate, uncalibrated

        cluster = nodes()
        at_once = {
            kind: concurrent_trials(kind, cluster) for kind in {trial.spec.resources for trial in prepared.trials}
        }
        asked = uncalibrated(prepared)
        there = {cell for cells in asked.values() for cell in cells}
        known = {trial.entry.cell_hash for trial in prepared.trials} - there
        found = estimate(prepared, library, known)
        for kind, cells in asked.items():
            calibrator = ray.remote(_Calibrator).options(num_cpus=kind.cpus, num_gpus=kind.gpus).remote()
            try:
                ray.get(calibrator.has_room.remote(), timeout=_PATIENCE)
            except ray.exceptions.GetTimeoutError:
                raise BusyError(
                    f"no room to calibrate in within {_PATIENCE:g} s: the cluster is busy. When it is free, it holds "
                    f"{_listed(at_once)} trials at a time"
                ) from None
            try:  # for as long as it fetches data
                found |= ray.get(calibrator.estimate.remote(prepared.sweep, cells, Path.cwd()))
            except ray.exceptions.RayActorError as error:
                raise UserError(f"the process that calibrated has died: {str(error).splitlines()[0]}") from None
            ray.kill(calibrator)  # its room may be the next one's
        every: dict[str, Estimate] = {}
        for trial in prepared.trials:
            cell = trial.entry.cell_hash
            every[cell] = replace(found[cell], at_once=at_once[trial.spec.resources])
        return Outlook(prepared.sweep.name, describe(cluster), tuple(every.values()))
    finally:
        disconnect()


class _Calibrator:
    """Lives on a node of the cluster, in the room of a trial."""

    def has_room(self) -> None:
        """Answers once there is some."""

    def estimate(self, sweep: SweepSpec, cells: list[str], folder: Path) -> dict[str, Estimate]:
        """`folder`: that of the driver, to which the spec's paths are relative."""
        from orchestrator.plan import estimate

        if folder.is_dir():
            os.chdir(folder)
        library = Library()
        return estimate(prepare(sweep, library, notify=lambda text: None), library, cells)


def _listed(at_once: dict[Resources, int]) -> str:
    return " or ".join(str(number) for number in sorted(set(at_once.values())))

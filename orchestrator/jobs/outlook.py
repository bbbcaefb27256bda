"""`medoid plan` for a cluster: what only a node of it can see, a short job looks at."""

import tempfile
import uuid
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console

from orchestrator.cluster import concurrent_trials, describe
from orchestrator.estimates import Outlook, read_outlook
from orchestrator.jobs.head import Head, HeadError
from orchestrator.jobs.places import check_places
from orchestrator.jobs.shipping import SPEC, pack
from orchestrator.preparation import sweep_storage
from specs import SweepSpec, expand
from workers.naming import unique_name

_COMMAND = f"exec python3 -m orchestrator.cli plan {SPEC} --address auto --json"


def outlook_there(sweep: SweepSpec, address: str, console: Console) -> Outlook:
    """What a sweep takes on a cluster: data, storage and speed as its nodes see them.

    Raises SpecError for places that mean nothing there, PlacementError where a trial can never be placed, both before
    anything is sent, and HeadError with what the job said where it failed.
    """
    check_places(sweep)
    head = Head(address)
    cluster = head.nodes()
    for resources in {trial.spec.resources for trial in expand(sweep)}:
        concurrent_trials(resources, cluster)
    console.print(f"calibrating on {describe(cluster)}", style="dim")
    # no job of a sweep: `medoid list` knows nothing of it, and any number may run at one time
    identity = f"plan-{unique_name(sweep_storage(sweep).uri)}-{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory(prefix=f"medoid-{sweep.name}-") as folder:
        pack(sweep, Path(folder))
        head.submit(identity, _COMMAND, Path(folder), {"COLUMNS": "120"}, {"medoid.plan": sweep.name})
    try:
        lines = "".join(head.follow(identity)).rstrip().splitlines()
    except KeyboardInterrupt:
        head.stop(identity)
        raise
    try:
        return read_outlook(next((line for line in reversed(lines) if line.startswith("{")), ""))
    except ValidationError:
        said = "\n".join(lines[2:])  # the first two are Ray's: setting up, and the command
        raise HeadError(f"{address} could not plan {sweep.name}:\n{said}") from None

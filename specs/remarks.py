"""What a sweep asks for that has no effect: allowed, but seldom meant."""

from collections.abc import Iterable

from specs.errors import shown
from specs.experiment import SweepSpec, TrialSpec
from specs.training import Milestones


def remarks(sweep: SweepSpec, trials: Iterable[TrialSpec]) -> list[str]:
    """One line a thing, naming field, value and why; each once."""
    found: dict[str, None] = {}
    grace = sweep.sweep.asha.grace_epochs if sweep.sweep.asha else 0
    stoppable = False
    for trial in trials:
        epochs, schedule = trial.training.epochs, trial.training.schedule
        stoppable |= grace < epochs
        late = [epoch for epoch in schedule.milestones if epoch >= epochs] if isinstance(schedule, Milestones) else []
        if late:
            name = f"training.schedule.milestones = {shown(late)}"
            found[f"{name}: the rate does not drop there, since training.epochs = {epochs}"] = None
        if schedule.warmup_epochs >= epochs:
            name = f"training.schedule.warmup_epochs = {schedule.warmup_epochs}"
            found[f"{name}: the rate never comes to its full size, since training.epochs = {epochs}"] = None
    if grace and not stoppable:
        found[f"sweep.asha.grace_epochs = {grace}: no trial is longer, so none is stopped"] = None
    return list(found)

"""The trained networks of a sweep, out of the checkpoints it keeps."""

from collections.abc import Sequence

from torch import nn

from orchestrator.errors import UserError
from orchestrator.preparation import PlannedTrial, Prepared
from workers.augmentation import check_augmentation
from workers.checkpoints import Checkpoints, DamagedCheckpointError
from workers.data import ImageData
from workers.models import build_model


def repeats(prepared: Prepared) -> tuple[PlannedTrial, ...]:
    """A sweep's trials, which must differ in their seeds alone: only such are put together in one figure.

    Raises UserError naming what else differs.
    """
    cells = {trial.entry.cell_hash: trial for trial in reversed(prepared.trials)}
    if len(cells) > 1:
        sweep = prepared.sweep.sweep
        axes = [f"sweep.{kind}.{name}" for kind in ("grid", "zip") for name in getattr(sweep, kind)]
        axes += [f"sweep.sample.{name}" for name in sweep.sample]
        labels = "; ".join(trial.label for trial in reversed(cells.values()))
        raise UserError(
            f"{prepared.sweep.name} has {len(cells)} kinds of trials ({labels}), and a spectrum is of one kind: "
            f"keep one value of {', '.join(axes)}, such as --set '{axes[0]}=[VALUE]'"
        )
    return prepared.trials


def trained_network(prepared: Prepared, trial: PlannedTrial, images: ImageData, epoch: int, again: str) -> nn.Module:
    """A trial's network after so many epochs, on the CPU, as it was trained: float32.

    again  the command that runs the sweep, for the error

    Raises UserError where there is no checkpoint of that epoch, or a damaged one, saying why and what to run.
    """
    checkpoints = Checkpoints(prepared.storage, trial.id, trial.spec.checkpoints.keep)
    try:
        state = checkpoints.load(epoch)
    except FileNotFoundError:
        raise UserError(_missing(prepared, trial, checkpoints.epochs(), epoch, again)) from None
    except DamagedCheckpointError as error:
        raise UserError(f"{error}; {_elsewhere(epoch, again)}") from None
    shape = check_augmentation(trial.spec.augmentation, images.image_shape)
    module = build_model(trial.spec.model, len(images.classes), shape, trial.spec.seed)
    module.load_state_dict(state["model"])
    return module


def _missing(prepared: Prepared, trial: PlannedTrial, there: Sequence[int], epoch: int, again: str) -> str:
    spec, where = trial.spec, f"no checkpoint of epoch {epoch} of trial {trial.id} ({trial.label})"
    where += f" in {prepared.storage.uri}"
    if epoch > spec.training.epochs:
        return f"--epoch = {epoch}: training ends after epoch {spec.training.epochs}"
    kept = epoch in spec.checkpoints.keep
    if kept and trial.state in ("new", "started", "failed"):
        return f"{where}: it has not come so far; run it first: {again}"
    others = f"; there is one of epoch {', '.join(map(str, there))} (--epoch)" if there else ""
    if trial.state in ("finished", "stopped"):
        return f"{where}: the trial is {trial.state}, and did not keep it{others}; {_elsewhere(epoch, again)}"
    return f"{where}: checkpoints.keep = {list(spec.checkpoints.keep)} does not name it{others}; {_keep(epoch, again)}"


def _keep(epoch: int, again: str) -> str:
    return f"run it first: {again} --set 'checkpoints.keep=[{epoch}]'"


def _elsewhere(epoch: int, again: str) -> str:
    """What is finished is never run again where it lies."""
    return f"train it anew in another folder: {again} --set 'checkpoints.keep=[{epoch}]' --set storage.path=FOLDER"

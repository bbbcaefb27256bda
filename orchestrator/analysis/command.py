"""`medoid analyze spectrum`: from a spec to the page."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import nn

from orchestrator.analysis.comparison import Range, split
from orchestrator.analysis.jacobian import MemoryBudgetError
from orchestrator.analysis.networks import repeats, trained_network
from orchestrator.analysis.perturbations import perturbations
from orchestrator.analysis.spectrum import Spectrum
from orchestrator.analysis.subsample import find_classes, subsample
from orchestrator.analysis.summary import Analysis, Settings, TrialSpectra
from orchestrator.analysis.terminal import spectrum_table
from orchestrator.analysis.writing import write_analysis
from orchestrator.errors import UserError
from orchestrator.preparation import Library, PlannedTrial, prepare
from specs import SweepSpec
from workers.assignment import device_of
from workers.data import ImageData, corrupt
from workers.data.images import Labels


@dataclass(frozen=True)
class Question:
    """The options of the command; empty lists ask for the defaults."""

    epoch: int
    classes: Sequence[str]
    examples: int
    augmentations: Sequence[str]
    draws: int
    ranges: int
    memory_gb: float
    seed: int


def analyze_spectrum(sweep: SweepSpec, question: Question, again: str, console: Console) -> None:
    """Analyse the networks that a sweep has kept, and write the page. `again`: the command that runs the sweep.

    Raises UserError for what cannot be asked, or is not there.
    """
    library = Library()
    prepared = prepare(sweep, library, notify=lambda text: console.print(text, style="dim"))
    trials = repeats(prepared)
    images = library.images(trials[0].spec.dataset)
    classes = find_classes(question.classes, images.classes)
    asked = perturbations(
        question.augmentations, trials[0].spec.augmentation, images.image_shape, question.seed, question.epoch
    )
    modules = [trained_network(prepared, trial, images, question.epoch, again) for trial in trials]
    settings = Settings(
        epoch=question.epoch,
        classes=tuple(images.classes[label] for label in classes),
        examples=question.examples,
        draws=question.draws,
        ranges=question.ranges,
        seed=question.seed,
    )
    device = _device(trials[0])
    spectra = []
    for trial, module in zip(trials, modules, strict=True):
        examples = corrupt(trial.spec.dataset, images, trial.spec.seed)
        ids = subsample(examples, classes, images.classes, question.examples, question.seed)
        spectra.append(_spectrum(module, trial, images, ids, device, question.memory_gb))
    ranges = [_ranges(len(spectrum.singular), question.ranges) for spectrum in spectra]
    found = []
    with _progress(console, len(trials) * len(asked) * question.draws) as advance:
        for trial, spectrum, cuts in zip(trials, spectra, ranges, strict=True):
            draws = []
            for one in asked:
                draws.append(spectrum.draws(one, question.draws, cuts, advance))
                console.print(f"{trial.label}: {one.title}, {question.draws} draws", style="dim")
            found.append(TrialSpectra(trial, spectrum.rows, spectrum.columns, tuple(draws)))
    analysis = Analysis(settings, tuple(found))
    key = write_analysis(prepared.storage, prepared.record, analysis, images, device)
    console.print(spectrum_table(analysis))
    console.print(f"spectrum: {prepared.storage.uri}/{key}", soft_wrap=True)


def _device(trial: PlannedTrial) -> torch.device:
    try:
        return device_of(trial.spec)
    except RuntimeError as error:  # no GPU here: that is the user's to mend
        raise UserError(str(error)) from None


def _spectrum(
    module: nn.Module, trial: PlannedTrial, images: ImageData, ids: Labels, device: torch.device, memory_gb: float
) -> Spectrum:
    try:
        return Spectrum(module, trial.spec, images, ids, device, round(memory_gb * 1e9))
    except MemoryBudgetError as error:
        raise UserError(f"--memory: {error}; or ask for fewer --examples or --classes") from None


def _ranges(rank: int, count: int) -> tuple[Range, ...]:
    try:
        return split(rank, count)
    except ValueError as error:
        raise UserError(f"--ranges: {error}") from None


@contextmanager
def _progress(console: Console, total: int) -> Iterator[Callable[[], None]]:
    """A bar of all draws, on a terminal; gives what is called after each."""
    columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("draws"), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task("draws", total=total)
        yield lambda: progress.advance(task)

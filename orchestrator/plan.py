"""What a sweep will take on this machine, before anything is started."""

import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from orchestrator.cluster import Node, PlacementError, concurrent_trials
from orchestrator.errors import UserError
from orchestrator.estimates import Estimate
from orchestrator.preparation import Library, PlannedTrial, Prepared
from selection import Plan, plan
from specs import TrialSpec
from specs.resources import Resources
from workers.assignment import device_of
from workers.augmentation import Augmenter, LossGuidedCopies, Pool, check_augmentation
from workers.checks import check_data
from workers.data import ImageData, TrainingSet
from workers.images import Normalizer
from workers.measuring import measure_losses
from workers.models import build_model, last_linear
from workers.records import TrialTimes, load_record, trial_key
from workers.selecting import Chooser, Chosen
from workers.sources import MemorySource, Source, open_source

_REPEATS = 3
_BATCHES = 4


@dataclass(frozen=True)
class _Costs:
    """Seconds on this machine."""

    weak: float  # an image
    strong: float  # a copy, on top
    step: float  # an image forward and backward
    forward: float  # an image
    selection: float  # a selection


def estimate(prepared: Prepared, library: Library, only: Collection[str] | None = None) -> dict[str, Estimate]:
    """Estimate the cells of a sweep: from finished trials, or from a few training steps on this machine.

    By the cells' hashes, in the sweep's order; `only`: of these cells.
    """
    known: dict[str, _Costs] = {}
    return {
        cell: _cell(prepared, trials, library.images(trials[0].spec.dataset), known)
        for cell, trials in _cells(prepared).items()
        if only is None or cell in only
    }


def uncalibrated(prepared: Prepared) -> dict[Resources, list[str]]:
    """The cells without a finished trial, which takes training steps to estimate, by what a trial of theirs uses."""
    found: dict[Resources, list[str]] = {}
    for cell, trials in _cells(prepared).items():
        if not any(_seconds_taken(prepared, trials)):
            found.setdefault(trials[0].spec.resources, []).append(cell)
    return found


def concurrency_here(spec: TrialSpec) -> int:
    """How many such trials this machine's cores and GPUs hold at once; one where not even that fits."""
    try:
        return concurrent_trials(spec.resources, [this_machine()])
    except PlacementError:
        return 1


def this_machine() -> Node:
    """What this machine offers."""
    return Node(os.cpu_count() or 1, torch.cuda.device_count())


def _cell(prepared: Prepared, trials: list[PlannedTrial], images: ImageData, known: dict[str, _Costs]) -> Estimate:
    spec = trials[0].spec
    examples = check_data(spec, images)
    chooser = Chooser(spec, examples)
    size = {"full": len(examples.ids), "none": 0}.get(spec.selection.strategy, chooser.size)
    chosen = None
    if size:
        chosen = Chosen(examples.ids[:size], np.ones(size))
    views = None if size is None else chooser.views(chosen, 0)
    planned = _selection_plan(spec, images, examples, chooser.size)
    totals = list(_seconds_taken(prepared, trials))
    if totals:
        seconds = float(np.mean(totals))
    else:
        if spec.resources.gpus and not torch.cuda.is_available():
            raise UserError(
                "resources.gpus = 1: torch sees no GPU here to try a few steps on; plan on a cluster with --address, "
                "or with --set resources.gpus=0 for this machine's processor"
            )
        costs = _calibrate(spec, images, examples, planned, known)
        counted = len(examples.ids) if views is None else len(views)
        copies = counted if views is None else int((views.copies > 0).sum())
        seconds = _reckon(chooser, costs, counted, copies, len(images.test))
    return Estimate(
        label=trials[0].label.rsplit(" seed", 1)[0],
        trials=len(trials),
        todo=sum(trial.state not in ("finished", "stopped") for trial in trials),
        selected=size,
        views=None if views is None else len(views),
        selection_bytes=planned.bytes if planned else 0,
        seconds=seconds,
        measured=bool(totals),
        at_once=concurrency_here(spec),
    )


def _cells(prepared: Prepared) -> dict[str, list[PlannedTrial]]:
    cells: dict[str, list[PlannedTrial]] = {}
    for trial in prepared.trials:
        cells.setdefault(trial.entry.cell_hash, []).append(trial)
    return cells


def _seconds_taken(prepared: Prepared, trials: list[PlannedTrial]) -> Iterator[float]:
    """Of the trials of a cell that have been run."""
    for trial in trials:
        times = load_record(prepared.storage, trial_key(trial.id, "times.json"), TrialTimes)
        if times is not None:
            yield sum(epoch.training_time + epoch.evaluation for epoch in times.epochs)


def _reckon(chooser: Chooser, costs: _Costs, views: int, copies: int, test: int) -> float:
    spec = chooser.spec
    epochs, workers = spec.training.epochs, spec.resources.workers  # who share images out, at no cost in this model
    each = (views * (costs.weak + costs.step) + copies * costs.strong) / workers
    forward = costs.forward / workers
    evaluations = -(-epochs // spec.evaluation.every)
    seconds = epochs * each + evaluations * test * forward
    for epoch in range(epochs):
        strategy = chooser.due(epoch)
        if strategy is None or not chooser.needs_proxies(strategy):
            continue
        if epoch == 0 or not spec.harvests():
            seconds += len(chooser.examples) * forward
        beside = each * (chooser.used_from(strategy, epoch) - epoch)  # what is trained while it is computed
        seconds += max(0.0, costs.selection - beside)
    return seconds


def _calibrate(
    spec: TrialSpec, images: ImageData, examples: TrainingSet, planned: Plan | None, known: dict[str, _Costs]
) -> _Costs:
    kind = f"{spec.dataset}{spec.model}{spec.augmentation}{spec.training.batch_size}{spec.resources}"
    if planned:
        kind += f"{spec.selection}"
    if kind in known:
        return known[kind]
    torch.set_num_threads(spec.resources.cpus)
    device = device_of(spec)
    shape = check_augmentation(spec.augmentation, images.image_shape)
    model = build_model(spec.model, len(images.classes), shape, spec.seed)
    model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    ids = examples.ids[: spec.training.batch_size]
    copies = np.ones(len(ids), np.int64)
    normalize = Normalizer.of(spec, images, device)
    target = torch.from_numpy(images.train.labels[ids]).to(device)
    with closing(open_source(spec, images, device)) as source:
        views = [(ids, copies)] * _BATCHES  # several: streamed images are read by several processes
        weak = _seconds(lambda: list(source.weak(views, seed=0, epoch=0)), device) / len(views)
        read = 0.0 if isinstance(source, MemorySource) else weak
        weakly = next(source.weak(views, seed=0, epoch=0))
        strong = _seconds(_strongly(spec, images, examples, source, model, normalize, weakly), device)
    inputs = normalize(weakly)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        functional.cross_entropy(model(inputs), target).backward()

    def forward() -> None:
        with torch.no_grad():
            model(inputs)

    n = len(ids)
    costs = _Costs(
        weak=weak / n,
        strong=strong / n,
        step=_seconds(step, device) / n,
        forward=(_seconds(forward, device) + read) / n,
        selection=planned.seconds if planned else 0.0,
    )
    known[kind] = costs
    return costs


def _strongly(
    spec: TrialSpec,
    images: ImageData,
    examples: TrainingSet,
    source: Source,
    model: nn.Module,
    normalize: Normalizer,
    weakly: torch.Tensor,
) -> Callable[[], Any]:
    """What makes a batch of copies."""
    ids = examples.ids[: len(weakly)]
    guided = spec.augmentation.loss_guided()
    if guided is None:
        copies = np.ones(len(ids), np.int64)
        chain = Augmenter(spec.augmentation.strong, start=len(spec.augmentation.weak))
        return lambda: chain(weakly, ids, copies, seed=0, epoch=0)
    assert isinstance(source, MemorySource)
    pool = Pool(examples.ids, examples.labels, len(images.classes), source.images.take)

    def score(candidates: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return measure_losses(model, candidates, targets, normalize)

    maker = LossGuidedCopies(guided, spec.augmentation.weak, pool, score)
    kept = np.arange(1, guided.kept + 1)
    of, numbers = np.repeat(ids, len(kept))[: len(ids)], np.tile(kept, len(ids))[: len(ids)]
    return lambda: maker(of, numbers, seed=0, epoch=0)  # the copies of an example come together


def _seconds(work: Callable[[], Any], device: torch.device) -> float:
    """The fastest of a few runs, after one to warm up."""
    taken = []
    for _ in range(1 + _REPEATS):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return min(taken[1:])


def _selection_plan(spec: TrialSpec, images: ImageData, examples: TrainingSet, size: int | None) -> Plan | None:
    """One selection of a coreset, on the processors of a trial; None for other strategies."""
    chosen, width = spec.selection, None
    if chosen.strategy != "coreset":
        return None
    if chosen.proxy == "last_layer":
        shape = check_augmentation(spec.augmentation, images.image_shape)
        width = last_linear(build_model(spec.model, len(images.classes), shape, spec.seed)).in_features
    return plan(
        np.bincount(examples.labels)[np.unique(examples.labels)].tolist(),
        columns=len(images.classes),
        embedding=width,
        budget=size,
        objective=chosen.objective,
        solver=chosen.solver,
        epsilon=chosen.epsilon,
        partitions=chosen.partitions,
        alpha=chosen.alpha,
        sample=chosen.sample,
        division=chosen.per_class,
        threads=spec.resources.cpus,
    )

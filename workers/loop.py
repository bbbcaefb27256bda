"""The loop: one trial, epoch after epoch, as a function of its spec and the context it runs in."""

import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from selection.mapper import Mapper
from selection.randomness import stream_seed
from selection.select import Selection
from specs import TrialSpec, cell_hash, spec_hash
from workers.augmentation import Augmenter, LossGuidedCopies, Pool, check_augmentation
from workers.augmented_set import AugmentedSet
from workers.batches import Batches, Step, steps_together
from workers.checkpoints import Checkpoints
from workers.clock import Clock
from workers.data import ImageData, TrainingSet, corrupt
from workers.environment import describe
from workers.group import Alone, Group, share
from workers.harvesting import Harvest, Measured
from workers.images import Normalizer
from workers.measuring import evaluate, measure_candidates, measure_losses
from workers.memory import reuse_freed_memory
from workers.models import build_model
from workers.records import (
    DataRecord,
    EpochRecord,
    EpochTimes,
    SelectionRecord,
    TrialResult,
    TrialTimes,
    selection_key,
    trial_key,
)
from workers.schedule import learning_rate
from workers.selecting import Chooser, selection_bytes
from workers.sources import MemorySource, Source, open_source
from workers.stepping import Stepper
from workers.storage import Storage
from workers.views import Views, shuffle
from workers.weights import Weights

log = logging.getLogger(__name__)


class DivergedError(RuntimeError):
    """A loss that is not finite."""


@dataclass(frozen=True)
class Context:
    """Everything outside the spec that a trial needs: where it runs, and who serves it."""

    trial_id: str
    storage: Storage
    images: ImageData
    mapper: Mapper
    weights: Weights | None = None  # what spec.model.pretrained names
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    group: Group = field(default_factory=Alone)
    concurrent: bool = False  # whether other trials may run on its device at the same time
    notify: Callable[[str], None] = log.warning


@dataclass(frozen=True)
class Epoch:
    """What an epoch gave."""

    record: EpochRecord
    times: EpochTimes
    selection: SelectionRecord | None


def train(spec: TrialSpec, context: Context) -> Iterator[Epoch]:
    """Train one trial, from its last good checkpoint on if it has one, yielding after every epoch.

    Every process of the trial's group runs this, in step. Network and images are of torch's default dtype, proxies
    always float32. Checkpoints, selections, and at the end times and result are written to the context's storage by
    rank 0; the result last, as the mark that the trial is finished.
    Raises DivergedError at the first loss that is not finite, naming epoch and step.
    """
    _configure(spec)
    with closing(open_source(spec, context.images, context.device)) as source:
        trial = _Trial(spec, context, source)
        if trial.epoch == spec.training.epochs:  # killed between its last checkpoint and its result
            trial.finish()
        while trial.epoch < spec.training.epochs:
            epoch = trial.run_epoch()
            if trial.epoch == spec.training.epochs:
                trial.finish()
            yield epoch


def _configure(spec: TrialSpec) -> None:
    reuse_freed_memory()
    torch.set_num_threads(spec.resources.cpus)
    if spec.resources.gpus:
        torch.use_deterministic_algorithms(spec.resources.deterministic)
        # deterministic mode would fill every new tensor first, which nobody reads before it is written
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = not spec.resources.deterministic


class _Trial:
    """The state of a trial between epochs."""

    def __init__(self, spec: TrialSpec, context: Context, source: Source):
        self.spec, self.context = spec, context
        images, device = context.images, context.device
        self.examples: TrainingSet = corrupt(spec.dataset, images, spec.seed)
        self.source = source
        self.normalize = Normalizer.of(spec, images, device)
        self.guided = self._loss_guided_copies()
        strong = () if spec.augmentation.loss_guided() else spec.augmentation.strong
        labels = np.full(len(images.train.labels), -1, np.int64)
        labels[self.examples.ids] = self.examples.labels
        self.batches = Batches(
            source,
            labels,
            Augmenter(strong, start=len(spec.augmentation.weak)),
            self.guided,
            self.normalize,
            steps_together(source, device, spec.training.batch_size),
        )
        self.chooser = Chooser(spec, self.examples, context.group.aside)
        assert (context.weights is None) == (spec.model.pretrained is None)
        shape = check_augmentation(spec.augmentation, images.image_shape)
        self.module = build_model(spec.model, len(images.classes), shape, spec.seed, context.weights)
        self.module.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        sgd = spec.training.optimizer
        self.optimizer = torch.optim.SGD(
            self.module.parameters(),
            lr=sgd.learning_rate,
            momentum=sgd.momentum,
            nesterov=sgd.nesterov,
            weight_decay=sgd.weight_decay,
        )
        self.epoch = 0
        self.augmented = AugmentedSet(self.chooser, self._measure, self._store, context.mapper, context.group)
        self.records: list[EpochRecord] = []
        self.times: list[EpochTimes] = []
        self.selections: list[SelectionRecord] = []
        self.concurrent = context.concurrent  # now, or when an earlier epoch was trained
        self.checkpoints = Checkpoints(context.storage, context.trial_id, spec.checkpoints.keep)
        self._resume()
        self.model: nn.Module = context.group.wrap(self.module)
        self.stepper = Stepper(self.model, replayed=spec.training.batch_size if spec.resources.cuda_graphs else 0)

    def run_epoch(self) -> Epoch:
        spec, context = self.spec, self.context
        clock = Clock(context.device)
        selected = self.augmented.update(self.epoch, clock)
        if selected is not None:
            self.selections.append(selected)
        rate = learning_rate(spec.training, self.epoch)
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = rate
        torch.manual_seed(stream_seed(spec.seed, "dropout", self.epoch, context.group.rank))
        views = self.chooser.views(self.augmented.chosen, self.epoch)
        views = shuffle(views, spec.seed, self.epoch, together=self.guided is not None)
        harvest = self.augmented.harvest(self.epoch, self.module)
        loss = self._pass(views, clock, harvest)
        if harvest is not None:
            with clock.span("proxies"):
                steps = -(-len(views) // spec.training.batch_size)
                self.augmented.keep(harvest.finish(steps, self.examples.ids, self.examples.labels, context.group))
        self.epoch += 1
        accuracy = test_loss = None
        if self.epoch % spec.evaluation.every == 0 or self.epoch == spec.training.epochs:
            with clock.span("evaluation"):
                context.group.align(self.module)
                test = context.images.test
                accuracy, test_loss = evaluate(
                    self.module, self.source.test, test.labels, self.normalize, context.group, spec.metric()
                )
            if not math.isfinite(test_loss):
                raise DivergedError(f"the test loss is {test_loss} after epoch {self.epoch}")
        clock.settle()
        record = EpochRecord(
            epoch=self.epoch,
            train_loss=loss,
            learning_rate=rate,
            views=len(views),
            augmented=int((views.copies > 0).sum()),
            test_accuracy=accuracy,
            test_loss=test_loss,
        )
        names = ("train", "augmentation", "proxies", "selection", "stall", "evaluation", "background")
        seconds = {name: clock.seconds[name] for name in names}
        times = EpochTimes(epoch=self.epoch, finished_at=time.time(), **seconds)
        self.records.append(record)
        self.times.append(times)
        self._save()
        return Epoch(record, times, selected)

    def _measure(self, strategy: str) -> Measured:
        """The candidates by a forward pass, each process its part."""
        examples = self.examples
        self.context.group.align(self.module)
        candidates = measure_candidates(
            self.module,
            self.source.train,
            examples.ids,
            examples.labels,
            self.normalize,
            self.context.group,
            embeddings=self.chooser.needs_embeddings(strategy),
        )
        if candidates.losses is not None and not np.isfinite(candidates.losses).all():
            bad = int(candidates.ids[np.argmin(np.isfinite(candidates.losses))])
            raise DivergedError(f"the loss of training example {bad} is not finite after epoch {self.epoch}")
        return Measured(candidates)

    def _store(self, epoch: int, selection: Selection) -> None:
        self.context.storage.write(selection_key(self.context.trial_id, epoch), selection_bytes(selection))

    def _pass(self, views: Views, clock: Clock, harvest: Harvest | None) -> float:
        """One pass of SGD over the views, filling the harvest; returns sum of w*l over the number of views."""
        spec, group = self.spec, self.context.group
        self.model.train()
        losses: list[torch.Tensor] = []
        steps = self._steps(len(views))
        batches = self.batches.of(views, steps, seed=spec.seed, epoch=self.epoch)
        for step in steps:
            with clock.lap("augmentation"):
                if self.guided:  # scores by the running statistics, which must be everybody's
                    group.align(self.module)
                batch = next(batches)
            with clock.lap("train"):
                scale = group.size / step.count  # DDP averages over the group
                logits, loss = self.stepper(batch, scale, watched=harvest is not None)
                if harvest is not None and not step.idle:
                    harvest.add(len(losses), views.ids[step.rows], views.copies[step.rows], logits)
                self.optimizer.step()
                losses.append(loss.clone())
        with clock.lap("train"):
            values = torch.stack(losses).double().cpu().numpy()
        totals = np.sum(group.gather(values), axis=0)
        if not np.isfinite(totals).all():
            bad = int(np.argmin(np.isfinite(totals)))
            raise DivergedError(f"the loss is {totals[bad]} in epoch {self.epoch + 1}, step {bad + 1} of {len(totals)}")
        return float(totals.sum()) / len(views)

    def _steps(self, n: int) -> list[Step]:
        """The steps over n views."""
        found, size = [], self.spec.training.batch_size
        for start in range(0, n, size):
            batch = np.arange(start, min(start + size, n))
            rows = batch[share(len(batch), self.context.group)]
            found.append(Step(len(batch), rows if len(rows) else batch[:1], not len(rows)))
        return found

    def _loss_guided_copies(self) -> LossGuidedCopies | None:
        operation = self.spec.augmentation.loss_guided()
        if operation is None or self.spec.selection.strategy == "none":
            return None
        classes = len(self.context.images.classes)
        assert isinstance(self.source, MemorySource)
        pool = Pool(self.examples.ids, self.examples.labels, classes, self.source.images.take)
        return LossGuidedCopies(operation, self.spec.augmentation.weak, pool, self._score)

    def _score(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return measure_losses(self.module, images, targets, self.normalize)

    def _save(self) -> None:
        done, every = self.epoch, self.spec.checkpoints.every
        last = done == self.spec.training.epochs
        due = (done % every == 0 and not last) or done in self.spec.checkpoints.keep
        if not due:
            return
        augmented = self.augmented.state()  # gathered from everybody
        if self.context.group.rank != 0:
            return
        history = {
            "records": [record.model_dump() for record in self.records],
            "times": [times.model_dump() for times in self.times],
            "selections": [record.model_dump() for record in self.selections],
            "concurrent": self.concurrent,
        }
        state = {
            "trial_id": self.context.trial_id,
            "seed": self.spec.seed,  # with the epoch, the state of every random stream
            "epoch": self.epoch,
            "model": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **augmented,
            "history": json.dumps(history),
        }
        self.checkpoints.save(self.epoch, state)

    def _resume(self) -> None:
        group = self.context.group
        state = group.tell(self.checkpoints.load_last(self.context.notify) if group.rank == 0 else None)
        if state is None:
            return
        if (state["trial_id"], state["seed"]) != (self.context.trial_id, self.spec.seed):
            raise RuntimeError(f"the checkpoint of trial {self.context.trial_id} belongs to {state['trial_id']}")
        self.module.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch = state["epoch"]
        self.augmented.resume(state)
        history = json.loads(state["history"])
        self.records = [EpochRecord(**record) for record in history["records"]]
        self.times = [EpochTimes(**times) for times in history["times"]]
        self.selections = [SelectionRecord(**record) for record in history["selections"]]
        self.concurrent |= history.get("concurrent", True)  # older checkpoints do not know

    def finish(self) -> None:
        """Write the times and, last, the result; the checkpoints have done their work."""
        context, spec = self.context, self.spec
        if context.group.rank != 0:
            return
        accuracy = self.records[-1].test_accuracy
        assert accuracy is not None
        images = context.images
        result = TrialResult(
            trial_id=context.trial_id,
            spec_hash=spec_hash(spec),
            cell_hash=cell_hash(spec),
            spec=spec,
            data=DataRecord(
                fingerprint=images.fingerprint,
                train=len(self.examples.ids),
                test=len(images.test.labels),
                classes=images.classes,
                image_shape=images.image_shape,
            ),
            test_accuracy=accuracy,
            metric=spec.metric(),
            epochs=tuple(self.records),
            selections=tuple(self.selections),
        )
        times = TrialTimes(
            trial_id=context.trial_id,
            concurrent=self.concurrent,
            epochs=tuple(self.times),
            **describe(context.device),
        )
        context.storage.write(trial_key(context.trial_id, "times.json"), times.to_bytes())
        context.storage.write(trial_key(context.trial_id, "result.json"), result.to_bytes())
        for name in ("error.json", "stopped.json"):
            context.storage.delete(trial_key(context.trial_id, name))
        self.checkpoints.finish()

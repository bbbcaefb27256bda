"""Live progress: bars in a terminal, plain lines elsewhere (a dumb terminal, a log file)."""

import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from orchestrator.preparation import PlannedTrial
from orchestrator.watching import Watcher
from workers.records import EpochRecord, EpochTimes, StoppedTrial, TrialError

_PLAIN_SECONDS = 15.0  # between two plain lines of one trial


class Display(Watcher, Protocol):
    """A watcher that shows things while it is entered."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def show_progress(console: Console, trials: list[PlannedTrial]) -> Display:
    """The display that suits the console."""
    tally = _Tally(trials)
    if console.is_terminal and not console.is_dumb_terminal:
        return _Bars(console, tally)
    return _Lines(console, tally)


class _Tally:
    """Where every trial stands, and how long it will take."""

    def __init__(self, trials: list[PlannedTrial]):
        self.total = len(trials)
        self.ended = 0
        self.epochs_total = sum(trial.spec.training.epochs for trial in trials)
        self.reached: dict[str, int] = {}
        self.accuracy: dict[str, float] = {}
        self.began: dict[str, tuple[float, int]] = {}
        self.start = time.monotonic()
        self._resumed = 0

    def begin(self, trial: PlannedTrial) -> None:
        self.began.pop(trial.id, None)

    def reach(self, trial: PlannedTrial, record: EpochRecord) -> None:
        if trial.id not in self.began:  # measured from its first report on: setting up is not an epoch
            self.began[trial.id] = (time.monotonic(), record.epoch)
            if trial.id not in self.reached:
                self._resumed += record.epoch - 1
        self.reached[trial.id] = max(record.epoch, self.reached.get(trial.id, 0))
        if record.test_accuracy is not None:
            self.accuracy[trial.id] = record.test_accuracy

    def end(self, trial: PlannedTrial) -> None:
        self.ended += 1
        # less what one that failed or was stopped never runs
        self.epochs_total -= trial.spec.training.epochs - self.reached.get(trial.id, 0)

    def left(self, trial: PlannedTrial) -> str:
        """Time until this trial ends."""
        if trial.id not in self.began:
            return ""
        since, first = self.began[trial.id]
        done = self.reached[trial.id] - first
        todo = trial.spec.training.epochs - self.reached[trial.id]
        return _duration((time.monotonic() - since) / done * todo) + " left" if done and todo else ""

    def left_in_all(self) -> str:
        """Time until the sweep ends, at the pace so far."""
        done = sum(self.reached.values()) - self._resumed
        todo = self.epochs_total - sum(self.reached.values())
        if done <= 0 or todo <= 0:
            return ""
        return _duration((time.monotonic() - self.start) / done * todo) + " left"

    def percent(self, trial: PlannedTrial) -> str:
        accuracy = self.accuracy.get(trial.id)
        return "" if accuracy is None else f"{accuracy * 100:5.1f} %"

    def passed(self) -> str:
        return _duration(time.monotonic() - self.start)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Bars:
    """One line a running trial, one for the whole; trials that ended stay above as plain lines."""

    def __init__(self, console: Console, tally: _Tally):
        self.tally = tally
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TextColumn("{task.fields[accuracy]}", style="bold"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", style="cyan"),
            console=console,
            transient=True,
        )
        self.overall = self.progress.add_task(
            "[bold]all trials", total=tally.total, unit="trials", accuracy="", left=""
        )
        self.bars: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def started(self, trial: PlannedTrial) -> None:
        self.tally.begin(trial)
        if trial.id not in self.bars:
            epochs = trial.spec.training.epochs
            self.bars[trial.id] = self.progress.add_task(trial.label, total=epochs, unit="epochs", accuracy="", left="")

    def epoch(self, trial: PlannedTrial, record: EpochRecord, times: EpochTimes) -> None:
        self.tally.reach(trial, record)
        self.progress.update(
            self.bars[trial.id],
            completed=record.epoch,
            accuracy=self.tally.percent(trial),
            left=self.tally.left(trial),
        )
        self.progress.update(self.overall, left=self.tally.left_in_all())

    def finished(self, trial: PlannedTrial) -> None:
        self._end(trial, Text.assemble(("✓ ", "green"), f"{trial.label}  {self.tally.percent(trial)}"))

    def failed(self, trial: PlannedTrial, failure: TrialError) -> None:
        self._end(trial, Text.assemble(("✗ ", "red"), f"{trial.label}  failed: {failure.error}"))

    def stopped(self, trial: PlannedTrial, stopped: StoppedTrial) -> None:
        text = f"{trial.label}  {self.tally.percent(trial)}  stopped early after epoch {stopped.epoch}"
        self._end(trial, Text.assemble(("– ", "yellow"), text))

    def note(self, text: str) -> None:
        self.progress.console.print(Text(f"! {text}", style="yellow"))

    def _end(self, trial: PlannedTrial, line: Text) -> None:
        self.tally.end(trial)
        if trial.id in self.bars:
            self.progress.remove_task(self.bars.pop(trial.id))
        self.progress.console.print(line)
        self.progress.update(self.overall, completed=self.tally.ended, left=self.tally.left_in_all())


class _Lines:
    """A line when a trial starts, every now and then while it runs, and when it ends."""

    def __init__(self, console: Console, tally: _Tally):
        self.console = console
        self.tally = tally
        self.said: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def started(self, trial: PlannedTrial) -> None:
        self.tally.begin(trial)
        self.said[trial.id] = time.monotonic()
        self._say(trial, "started")

    def epoch(self, trial: PlannedTrial, record: EpochRecord, times: EpochTimes) -> None:
        self.tally.reach(trial, record)
        if time.monotonic() - self.said.get(trial.id, 0.0) < _PLAIN_SECONDS:
            return
        self.said[trial.id] = time.monotonic()
        of = trial.spec.training.epochs
        self._say(trial, f"epoch {record.epoch}/{of}", self.tally.percent(trial), self.tally.left(trial))

    def finished(self, trial: PlannedTrial) -> None:
        self.tally.end(trial)
        self._say(trial, "finished", self.tally.percent(trial))

    def failed(self, trial: PlannedTrial, failure: TrialError) -> None:
        self.tally.end(trial)
        self._say(trial, f"failed: {failure.error}")

    def stopped(self, trial: PlannedTrial, stopped: StoppedTrial) -> None:
        self.tally.end(trial)
        self._say(trial, f"stopped early after epoch {stopped.epoch}", self.tally.percent(trial))

    def note(self, text: str) -> None:
        self._print(f"! {text}")

    def _say(self, trial: PlannedTrial, *parts: str) -> None:
        words = " ".join(part.strip() for part in parts if part)
        overall = " ".join(part for part in (self.tally.passed(), self.tally.left_in_all()) if part)
        self._print(f"[{self.tally.ended}/{self.tally.total}, {overall}] {trial.label}: {words}")

    def _print(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

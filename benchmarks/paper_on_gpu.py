"""The paper's Tables 4, 5 and 1 for CIFAR-10 and ResNet20 on one GPU, with speed-ups; no Ray, no MLflow.

To reach, with a the extra cost of a fully augmented epoch over a weak one (a = T_full / T_none - 1):

    speed-up at 30 %     at least 0.9 of the ceiling (1 + a) / (1 + 0.3 a), selection included
    gain at 30 %         at least 75 % of full augmentation's, three seeds
    training             at least 40,000 images/s, strong augmentation (AutoAugment on half of the images) included

What runs is the library's specs (table4_cifar10 at 10 % and 30 %, table5_noisy_cifar10, table1_cifar10_resnet20), with
fewer epochs: milestones and R shrink in proportion. Trials run one after another, seed by seed, and each epoch is
checkpointed. No epoch is begun that would end after --minutes, and the same command again goes on: call it as often as
it takes. Every call prints the tables of what is finished, the paper's figures beside them, and keeps the figures.

    python benchmarks/paper_on_gpu.py --root FOLDER --minutes 10 [--epochs 30] [--tables 4 5 1]
    python benchmarks/paper_on_gpu.py --root FOLDER --minutes 0        only the tables of what is finished
    python benchmarks/paper_on_gpu.py --root FOLDER --device cpu --epochs 2 --set dataset.train_per_class=20 …
                                       to see that it works; its figures are not published

FOLDER holds cifar-10-batches-py as torchvision keeps it, or images as train/<class>/* and test/<class>/*.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from environment import RESULTS, ROOT, summary, write_result
from rich.console import Console

sys.path.insert(0, str(ROOT))

import specs
from orchestrator.preparation import Library, PlannedTrial, Prepared, prepare, write_sweep
from orchestrator.report.comparisons import Cell, Comparison, compare
from orchestrator.report.paper_terminal import paper_tables
from orchestrator.report.published import published
from orchestrator.report.results import read_results
from orchestrator.report.speed import speed_ups, training_seconds
from orchestrator.report.terminal import terminal_table
from selection.mapper import SerialMapper
from workers.assignment import Assignment, device_of, record_failure, run
from workers.data import load_images
from workers.loop import Context, DivergedError, train
from workers.storage import LocalStorage

TABLES = {"4": "table4_cifar10", "5": "table5_noisy_cifar10", "1": "table1_cifar10_resnet20"}
FRACTIONS = {"4": [0.1, 0.3]}  # of the file's; the others as they stand there
SELECTIONS = {"4": 10, "5": 10}  # R = 20 of 200 epochs; Table 1's R = 1 stays
REACH = {"of_ceiling": 0.9, "gain": 0.75, "images_per_second": 40_000}
AT = 0.3
SEEDS = 3
LARGEST_SHARE = 2**30  # bytes of the GPU that others may hold: more, and this trial is not alone


def main() -> int:
    """Train while there is time, print, write the result. Returns 1 where something is not reached, 2 without a GPU."""
    given = _arguments()
    if given.device == "cuda" and not torch.cuda.is_available():
        print("torch sees no CUDA device; --device cpu tries the script out without one", file=sys.stderr)
        return 2
    clock = Clock(time.monotonic() + 60 * given.minutes)
    console = Console()
    storage = LocalStorage(given.storage)
    with storage.sole_writer("lock"):
        alone = _alone(given.device)
        _same_machine(storage, given)
        library = Library()
        try:
            loaded = [specs.load(TABLES[table], _overrides(table, given)) for table in given.tables]
            sweeps = [prepare(sweep, library, notify=print) for sweep in loaded]
        except specs.SpecError as error:
            raise SystemExit(str(error)) from None
        rates = throughput(sweeps, storage, clock)
        for prepared in sweeps:
            write_sweep(prepared)
            work_on(prepared, clock, alone=alone)
    tables = {prepared.sweep.name: figures(prepared, console) for prepared in sweeps}
    reached = _reached(tables.get("table4_cifar10"), rates)
    _say(reached, rates)
    folder = given.results or (RESULTS if given.device == "cuda" and not given.set else storage.root)
    settings = {name: getattr(given, name) for name in ("device", "epochs", "seeds", "set")}
    result = {**settings, "throughput": rates, "tables": tables, "reached": reached}
    print(f"-> {write_result('paper_on_gpu', result, folder)}")
    return int(any(one["reached"] is False for one in reached.values()))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="where CIFAR-10 is")
    parser.add_argument("--minutes", type=float, default=10.0, help="no epoch is begun that would end later")
    parser.add_argument("--epochs", type=int, default=30, help="of every trial; the paper's are 200")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES), help="in this order")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="as in medoid run")
    parser.add_argument("--storage", type=Path, default=ROOT / "runs" / "paper_on_gpu", help="where trials are kept")
    parser.add_argument("--results", type=Path, help="folder of the figures, where they are not published")
    return parser.parse_args()


@dataclass
class Clock:
    """When to stop, and how long an epoch of a cell takes."""

    deadline: float
    longest: dict[str, float] = field(default_factory=dict)

    def allows(self, cell: str) -> bool:
        """Whether another epoch of this cell ends in time, as far as is known."""
        return time.monotonic() + self.longest.get(cell, max(self.longest.values(), default=0.0)) < self.deadline

    def laps(self, cell: str, epochs: Iterator[Any]) -> Iterator[Any]:
        """The epochs, each timed."""
        since = time.monotonic()
        for epoch in epochs:
            now = time.monotonic()
            self.longest[cell] = max(self.longest.get(cell, 0.0), now - since)
            since = now
            yield epoch


def _overrides(table: str, given: argparse.Namespace) -> list[str]:
    epochs = given.epochs
    found = [
        *_data(given.root),
        f"training.epochs={epochs}",
        f"training.schedule.milestones={[max(1, epochs // 2), max(2, 3 * epochs // 4)]}",
        f"evaluation.every={max(1, epochs // 10)}",
        "checkpoints.every=1",
        f"resources.gpus={int(given.device == 'cuda')}",
        f"seeds={list(range(given.seeds))}",
        f"storage.path={given.storage}",
    ]
    if table in SELECTIONS:
        found.append(f"selection.every={max(1, epochs // SELECTIONS[table])}")
    if table in FRACTIONS:
        found.append(f"sweep.grid.selection.fraction={FRACTIONS[table]}")
    return found + given.set


def _data(root: Path) -> list[str]:
    if (root / "cifar-10-batches-py").is_dir():
        return ["dataset.name=cifar10", f"dataset.root={root}"]
    if (root / "train").is_dir() and (root / "test").is_dir():
        return ["dataset.name=image_folder", f"dataset.root={root}"]
    raise SystemExit(f"--root = {root}: should hold cifar-10-batches-py, or the folders train and test")


def _alone(device: str) -> bool:
    """Whether nobody else uses the GPU, as far as its memory tells."""
    if device == "cpu":
        return True
    free, there = torch.cuda.mem_get_info()
    if there - free > LARGEST_SHARE:
        print(f"others hold {(there - free) / 2**30:.1f} GiB of the GPU: what is trained now gives no speed-ups")
        return False
    return True


def _same_machine(storage: LocalStorage, given: argparse.Namespace) -> None:
    """Refuse to go on with the trials of another GPU: times of two would stand in one trial."""
    here = torch.cuda.get_device_name() if given.device == "cuda" else "cpu"
    if storage.exists("machine.json"):
        there = json.loads(storage.read("machine.json"))["device"]
        if there != here:
            raise SystemExit(f"--storage = {storage.root} holds trials of {there!r}; this is {here!r}: name another")
    storage.write("machine.json", json.dumps({"device": here}).encode())


def throughput(sweeps: list[Prepared], storage: LocalStorage, clock: Clock) -> dict[str, Any]:
    """Images a second of the loop with AutoAugment on half of them, once for every storage: some seconds a way.

    Kernels are deterministic, as the spec has it, or the fastest; and on a GPU with steps replayed as CUDA graphs, in
    a process of its own and with what fails there in place of a figure, since no trial here needs it to work. All of
    an epoch counts but evaluation; the first warms up, also selection and convolutions for the trials that follow.
    """
    if storage.exists("throughput.json"):
        return dict(json.loads(storage.read("throughput.json")))
    trials = [trial.spec for prepared in sweeps for trial in prepared.trials]
    full = [spec for spec in trials if spec.selection.strategy == "full" and spec.augmentation.loss_guided() is None]
    if not full or time.monotonic() > clock.deadline:
        return {}
    short = {"training": {**full[0].training.model_dump(), "epochs": 4}, "evaluation": {"every": 4}}
    found: dict[str, Any] = {}
    for graphs in (False, True) if full[0].resources.gpus else (False,):
        for deterministic in (True, False):
            way = {"deterministic": deterministic, "cuda_graphs": graphs}
            resources = {"resources": {**full[0].resources.model_dump(), **way}}
            spec = specs.TrialSpec.model_validate({**full[0].model_dump(), **short, **resources})
            found[", ".join(f"{name}: {str(value).lower()}" for name, value in way.items())] = _rates(spec, graphs)
    storage.write("throughput.json", json.dumps(found).encode())
    return found


def _rates(spec: specs.TrialSpec, apart: bool) -> dict[str, Any]:
    """Images a second of the epochs after the first, and every epoch's loss, which no way of running may change."""
    if not apart:
        rates, losses = _trained(spec)
        return {**summary(rates, 0), "train_losses": losses}
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            rates, losses = pool.submit(_trained, spec).result()
        except (RuntimeError, BrokenProcessPool) as error:  # torch's own, or the process's death
            return {"failed": f"{type(error).__name__}: {error}"}
    return {**summary(rates, 0), "train_losses": losses}


def _trained(spec: specs.TrialSpec) -> tuple[list[float], list[float]]:
    with tempfile.TemporaryDirectory(prefix="medoid-throughput-") as folder:
        mapper = SerialMapper(spec.resources.cpus)
        context = Context("speed", LocalStorage(folder), load_images(spec.dataset), mapper, device=device_of(spec))
        epochs = list(train(spec, context))
    rates = [epoch.record.views / epoch.times.training_time for epoch in epochs[1:]]
    return rates, [epoch.record.train_loss for epoch in epochs]


def work_on(prepared: Prepared, clock: Clock, *, alone: bool) -> None:
    """Train what is not finished, begun trials first, then seed by seed, while there is time."""
    begun_first = sorted(prepared.pending, key=lambda trial: (trial.state != "started", trial.spec.seed))
    for trial in begun_first:
        cell = trial.entry.cell_hash
        if not clock.allows(cell):
            return
        assignment = Assignment(trial.id, trial.spec, prepared.storage, concurrent=not alone)
        reached = 0
        try:
            for epoch in clock.laps(cell, run(assignment)):
                reached = epoch.record.epoch
                if reached < trial.spec.training.epochs and not clock.allows(cell):
                    break  # it is checkpointed
        except DivergedError as error:
            record_failure(assignment, error, reached)
            print(f"{prepared.sweep.name}, {trial.label}: {error}", flush=True)
        else:
            _tell(prepared, trial, reached)


def _tell(prepared: Prepared, trial: PlannedTrial, reached: int) -> None:
    print(f"{prepared.sweep.name}, {trial.label}: {reached} of {trial.spec.training.epochs} epochs", flush=True)


def figures(prepared: Prepared, console: Console) -> dict[str, Any]:
    """Print what is finished of a table, beside the paper, and give its figures."""
    results = read_results(prepared.storage, prepared.record)
    console.print(terminal_table(results))
    if (beside := paper_tables(results)) is not None:
        console.print(beside)
    (comparison,) = compare(results)
    speed = speed_ups(comparison)
    cells = []
    for cell in comparison.cells:
        entry: dict[str, Any] = {
            "strategy": cell.strategy,
            "size": cell.size,
            "cell_hash": cell.cell_hash,
            "n": len(cell.results),
            "asked": len(cell.outcomes),
        }
        if cell.results:
            entry["test_accuracy"] = summary([result.test_accuracy for result in cell.results], 5)
        if cell.share is not None:
            share = cell.share
            entry["share_of_gain"] = {"share": share.share, "low": share.low, "high": share.high, "n": share.n}
        if (seconds := _seconds(cell)) is not None:
            entry["seconds_an_epoch"] = summary(seconds)
        if (times := speed.of(cell)) is not None:
            entry["speed_up"] = {"mean": times.mean, "std": times.std, "n": times.n}
        cells.append(entry)
    return {"cells": cells, "ceiling": _ceiling(comparison)}


def _seconds(cell: Cell) -> list[float] | None:
    """Seconds of an epoch, evaluation aside, of each trial that ran alone."""
    return [training_seconds(times) / len(times.epochs) for times in cell.times if not times.concurrent] or None


def _ceiling(comparison: Comparison) -> dict[str, float] | None:
    """What a speed-up at 30 % could be at most: the a of full augmentation, and (1 + a) / (1 + 0.3 a)."""
    none, full = comparison.at("none", ""), comparison.at("full", "")
    weak, strong = (_seconds(cell) if cell else None for cell in (none, full))
    if weak is None or strong is None:
        return None
    extra = statistics.mean(strong) / statistics.mean(weak) - 1
    return {"a": extra, "ceiling": (1 + extra) / (1 + AT * extra)}


def _reached(table4: dict[str, Any] | None, rates: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Each aim with what was measured and the paper's figure; `reached` is None where it is not known yet.

    It takes SEEDS seeds to say so of trials.
    """
    figure2 = published()["figure2_cifar10"]
    paper = {name: figure2.at(name, "coreset", "30%") for name in ("share", "speedup")}
    cells = table4["cells"] if table4 else []
    cell = next((one for one in cells if (one["strategy"], one["size"]) == ("coreset", "30%")), {})
    ceiling = (table4 or {}).get("ceiling")
    speed, share = cell.get("speed_up"), cell.get("share_of_gain")
    of_ceiling = speed["mean"] / ceiling["ceiling"] if speed and ceiling else None
    best, way = max(((rate["mean"], way) for way, rate in rates.items() if "mean" in rate), default=(None, None))
    return {
        "speed_up": {
            "value": speed,
            "ceiling": ceiling,
            "of_ceiling": of_ceiling,
            "at_least": REACH["of_ceiling"],
            "reached": of_ceiling >= REACH["of_ceiling"] if of_ceiling and speed["n"] >= SEEDS else None,
            "paper": paper["speedup"].value if paper["speedup"] else None,
        },
        "gain": {
            "value": share,
            "at_least": REACH["gain"],
            "reached": share["share"] >= REACH["gain"] if share and share["n"] >= SEEDS else None,
            "paper": paper["share"].value / 100 if paper["share"] else None,
        },
        "images_per_second": {
            "value": best,
            "way": way,
            "at_least": REACH["images_per_second"],
            "reached": None if best is None else best >= REACH["images_per_second"],
        },
    }


def _say(reached: dict[str, dict[str, Any]], rates: dict[str, Any]) -> None:
    speed, gain, rate = (reached[name] for name in ("speed_up", "gain", "images_per_second"))
    for way, found in rates.items():
        said = found.get("failed") or f"{found['mean']:,.0f} ± {found['std']:,.0f} images/s"
        print(f"training, {way}: {said}")
    if speed["of_ceiling"] is not None:
        print(
            f"30 % coreset: {speed['value']['mean']:.2f} times as fast as full augmentation (paper {speed['paper']}), "
            f"{speed['of_ceiling']:.0%} of the ceiling of {speed['ceiling']['ceiling']:.2f} at a = "
            f"{speed['ceiling']['a']:.2f} (to reach: {speed['at_least']:.0%})"
        )
    if gain["value"] is not None:
        print(
            f"30 % coreset: {gain['value']['share']:.0%} of full augmentation's gain, n = {gain['value']['n']} "
            f"(paper {gain['paper']:.0%}, to reach: {gain['at_least']:.0%})"
        )
    if rate["value"] is not None:
        print(f"training: {rate['value']:,.0f} images/s (to reach: {rate['at_least']:,})")


if __name__ == "__main__":
    sys.exit(main())

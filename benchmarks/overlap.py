"""What overlapped selections and harvested proxies bring and cost: the time training stands still, and the accuracy.

Four ways of the same coreset trial, `cifar10_small` in regime full+augmented: blocking or overlapped, proxies by a
forward pass or harvested. Each runs inline, without Ray, through the loop, with every seed; the four take turns, seed
by seed, so that a noisy neighbour hurts all. The first selection of a trial blocks and goes by a forward pass in all
four, and compiles: it stands outside the figures per selection. A finished trial is not run again and one that was cut
off goes on, so the script may be stopped at any time; empty `--storage` to take the times anew with another commit.

In an overlapped run the selection is computed by a thread of the trial's own process, on the cores that it trains on:
on a small machine what the stall loses, training partly gains (`train` and `training_time` show it). A selection
service on other cores would take that away. So these figures say what overlapping brings at worst.

    python benchmarks/overlap.py --root FOLDER [--per-class 500] [--epochs 24] [--every 2] [--lag 1] [--seeds 3] …

FOLDER holds train/<class>/* and test/<class>/*, such as CIFAR-10 as JPEG files.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from environment import ROOT, summary, write_result

import specs
from selection.mapper import SerialMapper
from specs import Trial, cell_hash, trial_id
from workers.data import ImageData, load_images
from workers.loop import Context, train
from workers.records import TrialResult, TrialTimes, load_record, trial_key
from workers.storage import LocalStorage

WAYS = [(mode, source) for mode in ("blocking", "overlapped") for source in ("forward", "harvest")]
Finished = tuple[TrialResult, TrialTimes]


def main() -> int:
    """Run what is not finished yet, print, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="the image folder")
    parser.add_argument("--per-class", type=int, default=500, help="training images of each class")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--every", type=int, default=2, help="R: epochs between selections")
    parser.add_argument("--lag", type=int, default=1, help="epochs from asking to using, where overlapped")
    parser.add_argument("--fraction", type=float, default=0.1, help="k / n")
    parser.add_argument("--proxy", default="residual", choices=("residual", "last_layer"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cpus", type=int, default=len(os.sched_getaffinity(0)), help="threads of a trial")
    parser.add_argument("--storage", default=str(ROOT / "runs" / "overlap_benchmark"), help="where trials are kept")
    parser.add_argument("--name", default="overlap", help="name of the result file")
    arguments = parser.parse_args()
    trials = _trials(arguments)
    storage = LocalStorage(Path(arguments.storage))
    images = load_images(trials[0].spec.dataset)
    found: dict[tuple[str, str], list[Finished]] = {way: [] for way in WAYS}
    for trial in trials:
        way = (trial.spec.selection.mode, trial.spec.selection.proxy_source)
        found[way].append(_finished(trial, images, storage))
        result, times = found[way][-1]
        spent = sum(epoch.training_time for epoch in times.epochs)
        print(f"{way[0]}, {way[1]}, seed {result.spec.seed}: {result.test_accuracy:.2%}, {spent:.0f} s", flush=True)
    rows = {f"{mode}, {source}": _row(found[mode, source]) for mode, source in WAYS}
    settings = {
        key.replace("_", "-"): value for key, value in vars(arguments).items() if key not in ("storage", "name")
    }
    path = write_result(
        arguments.name,
        {
            **settings,
            "root": Path(arguments.root).name,
            "model": trials[0].spec.model.name,
            "images": len(images.train.labels),
            "data": images.fingerprint,
            "mapper": "SerialMapper: where overlapped, a thread of the trial's process, on the cores it trains on",
            "commits_of_the_trials": sorted({times.commit for each in found.values() for _, times in each}),
            "load_average_1min": round(os.getloadavg()[0], 2),
            "ways": rows,
        },
    )
    for name, row in rows.items():
        parts = ", ".join(f"{part} {_text(row['seconds_a_selection'][part])} s" for part in row["seconds_a_selection"])
        print(f"{name}: {_text(row['test_accuracy'], 100)} %; a selection: {parts}")
    print(f"-> {path.relative_to(ROOT)}")
    return 0


def _trials(arguments: argparse.Namespace) -> list[Trial]:
    """The four ways of every seed, seed by seed."""
    epochs = arguments.epochs
    milestones = [max(1, epochs // 2), max(2, 3 * epochs // 4)]
    sweep = specs.load(
        "cifar10_small",
        [
            f"dataset.root={arguments.root}",
            f"dataset.train_per_class={arguments.per_class}",
            "training.regime=full+augmented",
            f"training.epochs={epochs}",
            f"training.schedule.milestones={milestones}",
            f"selection.every={arguments.every}",
            f"selection.lag={arguments.lag}",
            f"selection.proxy={arguments.proxy}",
            f"evaluation.every={epochs}",
            f"checkpoints.every={max(1, epochs // 4)}",
            f"resources.cpus={arguments.cpus}",
            f"seeds={list(range(arguments.seeds))}",
            "sweep.grid.selection.strategy=[coreset]",
            f"sweep.grid.selection.fraction=[{arguments.fraction}]",
            "sweep.grid.selection.mode=[blocking, overlapped]",
            "sweep.grid.selection.proxy_source=[forward, harvest]",
        ],
    )
    return sorted(specs.expand(sweep), key=lambda trial: trial.spec.seed)


def _finished(trial: Trial, images: ImageData, storage: LocalStorage) -> Finished:
    """A trial's result and times, from storage or by running it to its end."""
    name = trial_id(trial.spec, images.fingerprint)
    if not storage.exists(trial_key(name, "result.json")):
        for _ in train(trial.spec, Context(name, storage, images, SerialMapper(trial.spec.resources.cpus))):
            pass
    result = load_record(storage, trial_key(name, "result.json"), TrialResult)
    times = load_record(storage, trial_key(name, "times.json"), TrialTimes)
    assert result is not None
    assert times is not None
    return result, times


def _row(finished: Sequence[Finished]) -> dict[str, Any]:
    """One way's figures: mean and standard deviation over seeds of what each trial says."""
    parts: dict[str, list[float]] = {name: [] for name in ("stall", "selection", "background", "proxies", "standing")}
    for result, times in finished:
        later = max(1, len(result.selections) - 1)
        first = _first(times)
        for part in ("stall", "selection", "background", "proxies"):
            parts[part].append((sum(getattr(epoch, part) for epoch in times.epochs) - first[part]) / later)
        parts["standing"].append(parts["stall"][-1] + parts["selection"][-1] + parts["proxies"][-1])
    stale = [one.staleness for result, _ in finished for one in result.selections if one.staleness is not None]
    return {
        "cell_hash": cell_hash(finished[0][0].spec),
        "n": len(finished),
        "selections": [len(result.selections) for result, _ in finished],
        "test_accuracy": summary([result.test_accuracy for result, _ in finished], 5),
        "training_time": summary([sum(epoch.training_time for epoch in times.epochs) for _, times in finished]),
        "train": summary([sum(epoch.train for epoch in times.epochs) for _, times in finished]),
        "seconds_a_selection": {part: summary(values) for part, values in parts.items()},
        "mean_staleness_in_steps": round(statistics.mean(stale), 2) if stale else None,
    }


def _first(times: TrialTimes) -> dict[str, float]:
    """What the first selection took: it blocks, goes by a forward pass and compiles, whatever the way."""
    epoch = times.epochs[0]
    return {part: getattr(epoch, part) for part in ("stall", "selection", "background", "proxies")}


def _text(found: dict[str, Any], scale: float = 1.0) -> str:
    deviation = "" if found["std"] is None else f" ± {found['std'] * scale:.3g}"
    return f"{found['mean'] * scale:.3g}{deviation}"


if __name__ == "__main__":
    sys.exit(main())

"""Shows: why the coreset trails random in Table 5 in small: how much of each subset is wrongly labelled.

The trials of specs/library/table5_small.yaml (5,000 CIFAR-10 images, half of their labels wrong; weights off), each way
of choosing as it is, and with the share of wrong labels in its subsets held at a given figure: it chooses so many
among the wrongly labelled, and the rest among the others. Only an experiment can do that, which knows them apart.

If the share is the cause, random at the coreset's share is as good as the coreset, and the coreset and max-loss at
random's share as good as random. Every trial of every seed runs inline, through the loop; one that is finished is not
run again, one that was cut off goes on. Times mean nothing: trials may run side by side.

    python benchmarks/table5_shares.py --root FOLDER [--seeds 3] [--processes 2] [--set FIELD=VALUE …]

FOLDER holds train/<class>/* and test/<class>/*, such as CIFAR-10 as JPEG files.
"""

import argparse
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from environment import RESULTS, ROOT, summary, write_result

import specs
from selection.mapper import SerialMapper
from selection.select import Selection
from selection.strategies import STRATEGIES, Candidates, Request, Strategy
from specs import TrialSpec, trial_id
from workers.data import ImageData, corrupt, load_images
from workers.loop import Context, train
from workers.records import TrialResult, load_record, trial_key
from workers.storage import LocalStorage

NAN = float("nan")
# strategy, and the share of wrong labels in its subsets; None: as it chooses by itself
WAYS: tuple[tuple[str, float | None], ...] = (
    ("random", None),
    ("coreset", None),
    ("coreset", 0.5),
    ("random", 0.57),
    ("max_loss", 0.5),
    ("random", 0.72),
)


@dataclass(frozen=True)
class AtShare:
    """A strategy that picks `share` of its subset among the examples `wrong`, and the rest among the others."""

    chosen_by: Strategy
    wrong: np.ndarray  # ids
    share: float

    @property
    def needs_proxies(self) -> bool:
        """As the strategy itself."""
        return self.chosen_by.needs_proxies

    def select(self, candidates: Candidates, request: Request) -> Selection:
        """Both parts, one after the other; weights of one."""
        assert request.size is not None
        among = np.isin(candidates.ids, self.wrong)
        size = round(self.share * request.size)
        parts = [
            self.chosen_by.select(_some(candidates, rows), replace(request, size=each))
            for rows, each in ((among, size), (~among, request.size - size))
        ]
        ids = np.concatenate([part.ids for part in parts])
        return Selection(
            ids=ids,
            weights=np.ones(len(ids)),
            gains=np.full(len(ids), NAN),
            value=NAN,
            seconds=sum(part.seconds for part in parts),
            waited=sum(part.waited for part in parts),
            gradient_error=NAN,
        )


def main() -> int:
    """Run what is not finished yet, print, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="the image folder")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2, help="trials at a time, of one thread each")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="as in `medoid run`")
    parser.add_argument("--storage", type=Path, default=ROOT / "runs" / "table5_shares", help="where trials are kept")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the figures")
    given = parser.parse_args()
    fields = [f"dataset.root={given.root}", *given.set]
    load_images(_spec(fields, "random", 0).dataset)  # decoded once, for all
    found: dict[tuple[str, float | None], list[TrialResult]] = {way: [] for way in WAYS}
    with ProcessPoolExecutor(given.processes, get_context("spawn")) as pool:
        asked = {
            pool.submit(finished, fields, way, seed, given.storage): (way, seed)
            for seed in range(given.seeds)
            for way in WAYS
        }
        for future in as_completed(asked):
            way, seed = asked[future]
            found[way].append(future.result())
            print(f"{_name(way)}, seed {seed}: {found[way][-1].test_accuracy:.2%}", flush=True)
    rows = [_row(way, results) for way, results in found.items()]
    for row in rows:
        accuracy = row["test_accuracy"]
        print(f"{row['name']}: {accuracy['mean']:.2%} ± {accuracy['std'] or NAN:.2%}, {row['mislabelled']:.1%} wrong")
    settings = {"spec": "specs/library/table5_small.yaml", "set": given.set, "seeds": given.seeds}
    print(f"-> {write_result('table5_shares', {**settings, 'ways': rows}, given.results)}")
    return 0


def finished(fields: list[str], way: tuple[str, float | None], seed: int, storage: Path) -> TrialResult:
    """A trial's result, from storage or by running it to its end. In a process that runs trials of all ways."""
    strategy, share = way
    spec = _spec(fields, strategy, seed)
    images = load_images(spec.dataset)
    own = STRATEGIES[strategy]
    if share is not None:
        STRATEGIES[strategy] = AtShare(own, _wrong(spec, images), share)
    try:
        name = trial_id(spec, images.fingerprint)
        place = LocalStorage(storage / _name(way).replace(" ", "_"))
        if not place.exists(trial_key(name, "result.json")):
            for _ in train(spec, Context(name, place, images, SerialMapper(1), concurrent=True)):
                pass
    finally:
        STRATEGIES[strategy] = own
    result = load_record(place, trial_key(name, "result.json"), TrialResult)
    assert result is not None
    return result


def _spec(fields: list[str], strategy: str, seed: int) -> TrialSpec:
    (trial,) = specs.expand(
        specs.load(
            "table5_small",
            [*fields, "selection.weights=off", f"seeds=[{seed}]", f"sweep.grid.selection.strategy=[{strategy}]"],
        )
    )
    return trial.spec


def _wrong(spec: TrialSpec, images: ImageData) -> np.ndarray:
    examples = corrupt(spec.dataset, images, spec.seed)
    return examples.ids[examples.labels != examples.clean_labels]


def _some(candidates: Candidates, rows: np.ndarray) -> Candidates:
    def part(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else values[rows]

    return Candidates(
        candidates.ids[rows],
        candidates.labels[rows],
        losses=part(candidates.losses),
        residuals=part(candidates.residuals),
        embeddings=part(candidates.embeddings),
    )


def _row(way: tuple[str, float | None], results: list[TrialResult]) -> dict[str, object]:
    results = sorted(results, key=lambda result: result.spec.seed)
    shares = [one.mislabelled for result in results for one in result.selections if one.mislabelled is not None]
    return {
        "name": _name(way),
        "strategy": way[0],
        "share": way[1],
        "test_accuracy": summary([result.test_accuracy for result in results], 5),
        "mislabelled": round(statistics.mean(shares), 4),
    }


def _name(way: tuple[str, float | None]) -> str:
    strategy, share = way
    return strategy if share is None else f"{strategy} at {share:g}"


if __name__ == "__main__":
    sys.exit(main())

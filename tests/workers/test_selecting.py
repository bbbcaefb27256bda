"""When selections are due, what is drawn at random, and what is kept of a selection."""

import io
import zipfile
from typing import Any

import numpy as np
import pytest

from selection.mapper import SerialMapper
from selection.select import Selection
from selection.strategies import Candidates
from specs import TrialSpec
from workers.data import TrainingSet
from workers.selecting import Chooser, Chosen, Waiting, chosen_from_state, chosen_state, selection_bytes

NAN = float("nan")
V = np.arange(100, 160)
CLEAN = np.arange(60) % 3


def chooser(regime: str = "subset", noise: float = 0.0, seed: int = 5, **selection: Any) -> Chooser:
    spec = TrialSpec.model_validate(
        {
            "dataset": {"name": "digits", "label_noise": noise},
            "model": {"name": "mlp"},
            "training": {"regime": regime, "epochs": 12},
            "selection": {"budget": 9, **selection},
            "seed": seed,
        }
    )
    labels = CLEAN.copy()
    labels[:6] = (labels[:6] + 1) % 3
    return Chooser(spec, TrainingSet(V, labels if noise else CLEAN, CLEAN))


def selected(ids: np.ndarray, weights: np.ndarray | None = None, **values: float) -> Selection:
    weights = np.ones(len(ids)) if weights is None else weights
    given = {"value": NAN, "seconds": 0.0, "waited": 0.0, "gradient_error": NAN, **values}
    return Selection(ids, weights, np.zeros(len(ids)), **given)


class TestDue:
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"strategy": "none"}, "- - - - - - - -"),
            ({"strategy": "none", "every": 2, "warmup_epochs": 3}, "- - - - - - - -"),
            ({"strategy": "full", "every": 2, "warmup_epochs": 3}, "full - - - - - - -"),
            ({"strategy": "random"}, "random random random random random random random random"),
            ({"strategy": "random", "every": 3}, "random - - random - - random -"),
            ({"strategy": "random", "every": 3, "warmup_epochs": 4}, "random - - random - - random -"),
            ({"strategy": "max_loss", "every": 4}, "max_loss - - - max_loss - - -"),
            ({"strategy": "coreset", "every": 3, "warmup_epochs": 1}, "random coreset - - coreset - - coreset"),
            ({"strategy": "coreset", "every": 3, "warmup_epochs": 4}, "random - - random coreset - - coreset"),
            ({"strategy": "coreset", "every": 9, "warmup_epochs": 2}, "random - coreset - - - - -"),
        ],
    )
    def test_before_each_epoch(self, options: dict[str, Any], expected: str) -> None:
        made = chooser(**options)
        assert " ".join(made.due(epoch) or "-" for epoch in range(8)) == expected


class TestRandomDraws:
    def main(self, made: Chooser, epoch: int) -> list[int]:
        """The main set of `random+augmented`: the originals."""
        views = made.views(Chosen(V[:9], None), epoch)
        return views.ids[views.copies == 0].tolist()

    def test_the_main_set_is_redrawn_every_r(self) -> None:
        made = chooser("random+augmented", every=3)
        sets = [self.main(made, epoch) for epoch in range(9)]
        assert all(len(set(drawn)) == 9 and set(drawn) <= set(V.tolist()) for drawn in sets)
        assert sets[0] == sets[1] == sets[2]
        assert sets[3] == sets[4] == sets[5]
        assert sets[6] == sets[7] == sets[8]
        assert sets[0] != sets[3] != sets[6] != sets[0]

    def test_the_subset_of_none_is_redrawn_every_r(self) -> None:
        made = chooser("subset", strategy="none", every=2)
        sets = [made.views(None, epoch).ids.tolist() for epoch in range(4)]
        assert sets[0] == sets[1] != sets[2] == sets[3]
        assert all(len(drawn) == 9 for drawn in sets)

    def test_the_main_set_depends_on_the_seed_alone(self) -> None:
        """Strategies that share a seed share the main set, so that they differ in S only."""
        sets = {
            (strategy, seed): self.main(chooser("random+augmented", strategy=strategy, seed=seed), 4)
            for strategy in ("random", "coreset", "max_loss", "full")
            for seed in (0, 1)
        }
        assert len({tuple(drawn) for (_, seed), drawn in sets.items() if seed == 0}) == 1
        assert sets["random", 0] != sets["random", 1]

    def test_the_main_set_and_a_random_s_are_drawn_apart(self) -> None:
        made = chooser("random+augmented", strategy="random")
        drawn = made.select("random", Candidates(V, CLEAN), 4, SerialMapper())
        assert drawn.ids.tolist() != self.main(made, 4)

    def test_a_random_s_is_another_each_time(self) -> None:
        made = chooser(strategy="random")
        draws = [made.select("random", Candidates(V, CLEAN), epoch, SerialMapper()) for epoch in (0, 1, 0)]
        assert draws[0].ids.tolist() == draws[2].ids.tolist() != draws[1].ids.tolist()
        assert all(len(set(drawn.ids.tolist())) == 9 for drawn in draws)


class TestRecord:
    def test_overlap_with_the_largest_losses_is_counted(self) -> None:
        losses = np.random.default_rng(0).permutation(60).astype(np.float32)
        largest = {int(V[row]) for row in range(60) if losses[row] >= 56}
        ids = np.array([*sorted(largest)[:3], *[i for i in V.tolist() if i not in largest][:1]])
        record = chooser().record("coreset", selected(ids), Candidates(V, CLEAN, losses=losses), 3)
        assert record.overlap_max_loss == 0.75
        assert (record.epoch, record.strategy, record.size) == (3, "coreset", 4)

    def test_no_losses_no_overlap(self) -> None:
        assert chooser().record("random", selected(V[:3]), Candidates(V, CLEAN), 0).overlap_max_loss is None

    def test_the_share_of_wrong_labels_is_counted(self) -> None:
        made = chooser(noise=0.1)  # the labels of 100 to 105 are wrong
        ids = np.array([130, 105, 120, 100, 119, 106, 103, 110])
        assert made.record("random", selected(ids), Candidates(V, CLEAN), 0).mislabelled == 3 / 8

    def test_without_label_noise_there_is_no_such_share(self) -> None:
        assert chooser().record("random", selected(V[:3]), Candidates(V, CLEAN), 0).mislabelled is None

    def test_nan_is_kept_as_none(self) -> None:
        record = chooser().record("coreset", selected(V[:2], value=3.5), Candidates(V, CLEAN), 0)
        assert (record.value, record.gradient_error) == (3.5, None)


class TestWeightsOfS:
    def test_coreset(self) -> None:
        chosen = chooser().chosen("coreset", selected(V[:2], np.array([45.0, 15.0])))
        assert chosen.weights is not None
        assert chosen.weights.tolist() == [1.5, 0.5]  # times k/n = 2/60

    @pytest.mark.parametrize("strategy", ["random", "max_loss", "full"])
    def test_others(self, strategy: str) -> None:
        assert chooser().chosen(strategy, selected(V[:2])).weights is None

    @pytest.mark.parametrize("weights", [None, np.array([1 / 3, 5 / 3])])
    def test_come_out_of_a_checkpoint_as_they_went_in(self, weights: np.ndarray | None) -> None:
        back = chosen_from_state(chosen_state(Chosen(np.array([7, 3]), weights)))
        assert back is not None
        assert back.ids.dtype == np.int64
        assert back.ids.tolist() == [7, 3]
        assert back.weights is None if weights is None else np.array_equal(back.weights, weights)

    def test_no_s_in_a_checkpoint(self) -> None:
        assert chosen_from_state(chosen_state(None)) is None


def test_selections_are_stored_in_pick_order_and_without_a_date() -> None:
    data = selection_bytes(selected(np.array([7, 3]), np.array([1.0, 5.0])))
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        assert stored["ids"].tolist() == [7, 3]
        assert stored["weights"].tolist() == [1.0, 5.0]
        assert set(stored) == {"ids", "weights", "gains"}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_waiting_is_what_computing_does_not_explain() -> None:
    waiting = Waiting()
    waiting.start -= 10.0
    computing, waited = waiting.split(selected(V[:1], seconds=4.0))
    assert computing == 4.0
    assert waited == pytest.approx(6.0, abs=0.5)
    computing, waited = waiting.split(selected(V[:1], seconds=99.0))  # by another process's clock
    assert computing == pytest.approx(10.0, abs=0.5)
    assert waited == 0.0

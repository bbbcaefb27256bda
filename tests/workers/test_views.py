"""Views against tables written by hand from the definition of the regimes and weights."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from selection.select import Selection
from specs import TrialSpec
from workers.data import TrainingSet
from workers.selecting import Chooser
from workers.views import Views, make_views, shuffle

V = np.arange(10, 16)  # the ground set
S = np.array([12, 10])  # in pick order
GAMMA = np.array([4.0, 2.0])  # 4 of the 6 examples are nearest to 12, 2 to 10; times k/n: 4/3 and 2/3
MAIN = [11, 12]  # the random main set; one of it is in S
SEED = 7  # the seed that draws it before epoch 0

# id.copy=weight, 1 where left out. By regime, placement and r; `plain`: S is not weighted, `weighted`: s = k/n.
NONE = {
    "subset": "11.0 12.0",
    "full+augmented": "10.0 11.0 12.0 13.0 14.0 15.0",
    "random+augmented": "11.0 12.0",
}
PLAIN = {
    ("subset", "append", 1): "10.0 10.1 12.0 12.1",
    ("subset", "append", 2): "10.0 10.1 10.2 12.0 12.1 12.2",
    ("subset", "in_place", 1): "10.1 12.1",
    ("subset", "in_place", 2): "10.1 10.2 12.1 12.2",
    ("full+augmented", "append", 1): "10.0 10.1 11.0 12.0 12.1 13.0 14.0 15.0",
    ("full+augmented", "append", 2): "10.0 10.1 10.2 11.0 12.0 12.1 12.2 13.0 14.0 15.0",
    ("full+augmented", "in_place", 1): "10.1 11.0 12.1 13.0 14.0 15.0",
    ("full+augmented", "in_place", 2): "10.1 10.2 11.0 12.1 12.2 13.0 14.0 15.0",
    ("random+augmented", "append", 1): "10.1 11.0 12.0 12.1",
    ("random+augmented", "append", 2): "10.1 10.2 11.0 12.0 12.1 12.2",
    ("random+augmented", "in_place", 1): "10.1 11.0 12.1",
    ("random+augmented", "in_place", 2): "10.1 10.2 11.0 12.1 12.2",
}
WEIGHTED = {
    ("subset", "append", 1): "10.0=2/3 10.1=2/3 12.0=4/3 12.1=4/3",
    ("subset", "append", 2): "10.0=2/3 10.1=1/3 10.2=1/3 12.0=4/3 12.1=2/3 12.2=2/3",
    ("subset", "in_place", 1): "10.1=2/3 12.1=4/3",
    ("subset", "in_place", 2): "10.1=1/3 10.2=1/3 12.1=2/3 12.2=2/3",
    ("full+augmented", "append", 1): "10.0 10.1=2/3 11.0 12.0 12.1=4/3 13.0 14.0 15.0",
    ("full+augmented", "append", 2): "10.0 10.1=1/3 10.2=1/3 11.0 12.0 12.1=2/3 12.2=2/3 13.0 14.0 15.0",
    ("full+augmented", "in_place", 1): "10.1=2/3 11.0 12.1=4/3 13.0 14.0 15.0",
    ("full+augmented", "in_place", 2): "10.1=1/3 10.2=1/3 11.0 12.1=2/3 12.2=2/3 13.0 14.0 15.0",
    ("random+augmented", "append", 1): "10.1=2/3 11.0 12.0 12.1=4/3",
    ("random+augmented", "append", 2): "10.1=1/3 10.2=1/3 11.0 12.0 12.1=2/3 12.2=2/3",
    ("random+augmented", "in_place", 1): "10.1=2/3 11.0 12.1=4/3",
    ("random+augmented", "in_place", 2): "10.1=1/3 10.2=1/3 11.0 12.1=2/3 12.2=2/3",
}
FULL = {
    ("subset", "append", 1): "10.0 10.1 11.0 11.1 12.0 12.1 13.0 13.1 14.0 14.1 15.0 15.1",
    (
        "subset",
        "append",
        2,
    ): "10.0 10.1 10.2 11.0 11.1 11.2 12.0 12.1 12.2 13.0 13.1 13.2 14.0 14.1 14.2 15.0 15.1 15.2",
    ("subset", "in_place", 1): "10.1 11.1 12.1 13.1 14.1 15.1",
    ("subset", "in_place", 2): "10.1 10.2 11.1 11.2 12.1 12.2 13.1 13.2 14.1 14.2 15.1 15.2",
    ("full+augmented", "append", 1): "10.0 10.1 11.0 11.1 12.0 12.1 13.0 13.1 14.0 14.1 15.0 15.1",
    ("full+augmented", "append", 2): "10.0 10.1 10.2 11.0 11.1 11.2 12.0 12.1 12.2 13.0 13.1 13.2 14.0 14.1 14.2 "
    "15.0 15.1 15.2",
    ("full+augmented", "in_place", 1): "10.1 11.1 12.1 13.1 14.1 15.1",
    ("full+augmented", "in_place", 2): "10.1 10.2 11.1 11.2 12.1 12.2 13.1 13.2 14.1 14.2 15.1 15.2",
    ("random+augmented", "append", 1): "10.1 11.0 11.1 12.0 12.1 13.1 14.1 15.1",
    ("random+augmented", "append", 2): "10.1 10.2 11.0 11.1 11.2 12.0 12.1 12.2 13.1 13.2 14.1 14.2 15.1 15.2",
    ("random+augmented", "in_place", 1): "10.1 11.1 12.1 13.1 14.1 15.1",
    ("random+augmented", "in_place", 2): "10.1 10.2 11.1 11.2 12.1 12.2 13.1 13.2 14.1 14.2 15.1 15.2",
}
CASES = list(PLAIN)


def table(text: str) -> list[tuple[int, int, float]]:
    rows = []
    for cell in text.split():
        view, _, weight = cell.partition("=")
        number, _, copy = view.partition(".")
        rows.append((int(number), int(copy), float(np.float32(Fraction(weight or 1)))))
    return rows


def rows(views: Views) -> list[tuple[int, int, float]]:
    assert views.weights.dtype == np.float32
    return list(zip(views.ids.tolist(), views.copies.tolist(), views.weights.tolist(), strict=True))


def chooser(regime: str, strategy: str, placement: str = "append", copies: int = 1, **selection: Any) -> Chooser:
    spec = TrialSpec.model_validate(
        {
            "dataset": {"name": "digits"},
            "model": {"name": "mlp"},
            "training": {"regime": regime, "epochs": 9},
            "augmentation": {"strong": [{"name": "cutout"}], "copies": copies, "placement": placement},
            "selection": {"strategy": strategy, "budget": 2, **selection},
            "seed": SEED,
        }
    )
    return Chooser(spec, TrainingSet(V, V % 2, V % 2))


def views_of(chooser: Chooser, used: str, ids: np.ndarray = S, gamma: np.ndarray = GAMMA) -> Views:
    """The views of epoch 0, where strategy `used` has selected `ids`."""
    selection = Selection(ids, gamma, np.zeros(len(ids)), 0.0, 0.0, 0.0, 0.0)
    return chooser.views(chooser.chosen(used, selection), 0)


@pytest.mark.parametrize("regime", NONE)
def test_no_copies(regime: str) -> None:
    assert rows(chooser(regime, "none").views(None, 0)) == table(NONE[regime])


@pytest.mark.parametrize(("regime", "placement", "copies"), CASES)
@pytest.mark.parametrize("strategy", ["random", "max_loss"])
def test_sets_without_weights(strategy: str, regime: str, placement: str, copies: int) -> None:
    views = views_of(chooser(regime, strategy, placement, copies), strategy, gamma=np.ones(2))
    assert rows(views) == table(PLAIN[regime, placement, copies])


@pytest.mark.parametrize(("regime", "placement", "copies"), CASES)
def test_coreset(regime: str, placement: str, copies: int) -> None:
    views = views_of(chooser(regime, "coreset", placement, copies), "coreset")
    assert rows(views) == table(WEIGHTED[regime, placement, copies])


@pytest.mark.parametrize(("regime", "placement", "copies"), CASES)
def test_coreset_with_weights_off(regime: str, placement: str, copies: int) -> None:
    views = views_of(chooser(regime, "coreset", placement, copies, weights="off"), "coreset")
    assert rows(views) == table(PLAIN[regime, placement, copies])


@pytest.mark.parametrize(("regime", "placement", "copies"), CASES)
def test_full(regime: str, placement: str, copies: int) -> None:
    views = views_of(chooser(regime, "full", placement, copies), "full", V, np.ones(6))
    assert rows(views) == table(FULL[regime, placement, copies])


def test_weights_of_equation_10() -> None:
    views = views_of(chooser("subset", "coreset", copies=2, weights="sum_n"), "coreset")
    assert rows(views) == table("10.0=2 10.1=1 10.2=1 12.0=4 12.1=2 12.2=2")


def test_a_coreset_of_equal_weights_is_still_weighted() -> None:
    views = views_of(chooser("full+augmented", "coreset", copies=2), "coreset", gamma=np.array([3.0, 3.0]))
    assert rows(views) == table("10.0 10.1=1/2 10.2=1/2 11.0 12.0 12.1=1/2 12.2=1/2 13.0 14.0 15.0")


def test_warm_up_of_a_coreset_is_not_weighted() -> None:
    views = views_of(chooser("subset", "coreset", copies=2, warmup_epochs=3), "random", gamma=np.ones(2))
    assert rows(views) == table(PLAIN["subset", "append", 2])


def some_views(selected: list[int], everything: int = 300) -> Views:
    return make_views(
        "full+augmented",
        np.arange(everything),
        np.zeros(0, np.int64),
        np.array(selected),
        np.linspace(0.5, 2, len(selected)),
        copies=2,
        in_place=False,
    )


class TestShuffle:
    def test_is_a_permutation_of_whole_rows(self) -> None:
        views = some_views([5, 99, 7])
        shuffled = rows(shuffle(views, seed=1, epoch=0))
        assert shuffled != rows(views)
        assert sorted(shuffled) == rows(views)

    def test_depends_on_seed_and_epoch(self) -> None:
        views = some_views([5, 99, 7])
        orders = {(seed, epoch): rows(shuffle(views, seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}
        assert orders[0, 0] == rows(shuffle(views, 0, 0))
        assert all(orders[a] != orders[b] for a in orders for b in orders if a < b)

    def test_another_coreset_does_not_reorder_the_others(self) -> None:
        orders = [shuffle(some_views(selected), 3, 4) for selected in ([5, 99, 7], [200, 5])]
        common = []
        for views in orders:
            of_common = (views.copies == 0) | (views.ids == 5)
            common.append(list(zip(views.ids[of_common], views.copies[of_common], strict=True)))
        assert common[0] == common[1]

    def test_copies_are_spread_over_the_epoch(self) -> None:
        """As originals are: the mean place of both is the middle."""
        views = some_views(list(range(150)))
        middles = []
        for epoch in range(20):
            shuffled = shuffle(views, 0, epoch)
            middles.append(np.flatnonzero(shuffled.copies > 0).mean() / (len(views) - 1))
        assert np.mean(middles) == pytest.approx(0.5, abs=0.01)  # its deviation is 0.0026

    def test_copies_come_together_where_asked(self) -> None:
        """At a place drawn for all of an example's copies, apart from its original; the others stay in their order."""
        chosen = [5, 99, 7, 250]
        together = shuffle(some_views(chosen), 0, 1, together=True)
        assert sorted(rows(together)) == rows(some_views(chosen))
        places = {(example, copy): place for place, (example, copy, _) in enumerate(rows(together))}
        assert all(places[example, 2] == places[example, 1] + 1 for example in chosen)
        assert any(abs(places[example, 1] - places[example, 0]) > 1 for example in chosen)
        originals = [view for view in rows(together) if view[1] == 0]
        assert originals == [view for view in rows(shuffle(some_views(chosen), 0, 1)) if view[1] == 0]

"""The ways of choosing S."""

from typing import Any

import numpy as np
import pytest
from facility_location import proxies, residuals
from scipy import stats

from selection import select
from selection.strategies import STRATEGIES, Candidates, Request, largest_losses, random_ids
from specs.selection import Selection as SelectionSpec

IDS = np.arange(40) * 5 + 2


def candidates(**rows: Any) -> Candidates:
    return Candidates(IDS, np.arange(40) % 4, **rows)


def request(strategy: str, size: int | None, seed: int = 0, epoch: int = 0, **options: Any) -> Request:
    return Request(SelectionSpec.model_validate({"strategy": strategy, **options}), size, seed, epoch)


def drawn(seed: int, epoch: int, size: int = 12) -> list[int]:
    chosen = STRATEGIES["random"].select(candidates(), request("random", size, seed, epoch)).ids
    return [int(i) for i in chosen]


@pytest.mark.parametrize("vary", ["seed", "epoch"])
def test_random_subsets_are_uniform(vary: str) -> None:
    draws = [drawn(**{"seed": 3, "epoch": 3, vary: i}) for i in range(2000)]
    rows = np.searchsorted(IDS, np.array(draws))
    assert (IDS[rows] == draws).all()
    assert all(len(set(draw)) == 12 for draw in draws)
    singles = np.bincount(rows.ravel(), minlength=40)
    # Without replacement, single counts vary less than the multinomial's by (1 - k/n) n/(n - 1).
    statistic = ((singles - 600.0) ** 2 / 600.0).sum() / ((1 - 12 / 40) * 40 / 39)
    assert 0.001 < stats.chi2(39).sf(statistic) < 0.999
    together = np.zeros((40, 40))
    for row in rows:
        together[np.ix_(row, row)] += 1
    pairs = together[np.triu_indices(40, 1)]
    expected = 2000 * 12 * 11 / (40 * 39)
    assert abs(pairs.mean() - expected) < 1e-9
    assert 0.8 < pairs.var() / (expected * (1 - expected / 2000)) < 1.2
    assert len({tuple(draw) for draw in draws}) == 2000


def test_random_subsets_are_functions_of_seed_and_epoch() -> None:
    first = drawn(1, 2)
    assert drawn(1, 3) != first
    assert drawn(2, 2) != first
    assert drawn(1, 2) == first == sorted(first)
    assert random_ids(IDS, 12, 1, 2, purpose=0).tolist() == first
    assert random_ids(IDS, 12, 1, 2, purpose=1).tolist() != first


def test_whether_an_example_is_drawn_before_another_depends_on_the_two_alone() -> None:
    every = [random_ids(IDS, size, 4, 5, purpose=0).tolist() for size in range(1, 41)]
    order = [(set(after) - set(before)).pop() for before, after in zip([[], *every[:-1]], every, strict=True)]
    for kept in (IDS[::2], IDS[::-1][:30], np.random.default_rng(0).permutation(IDS)[:25]):
        expected = [i for i in order if i in kept][:7]
        assert random_ids(np.sort(kept), 7, 4, 5, purpose=0).tolist() == sorted(expected)
        assert random_ids(kept, 7, 4, 5, purpose=0).tolist() == sorted(expected)


def test_max_loss_takes_the_largest_and_breaks_ties_by_id() -> None:
    losses = np.zeros(40, np.float32)
    losses[[30, 5, 17]] = 2.0
    losses[8] = 3.0
    losses[25] = np.inf
    chosen = STRATEGIES["max_loss"].select(candidates(losses=losses), request("max_loss", 7)).ids
    assert chosen.tolist() == IDS[[25, 8, 5, 17, 30, 0, 1]].tolist()


def test_losses_that_cannot_be_ordered_are_refused() -> None:
    losses = np.zeros(40, np.float32)
    losses[3] = np.nan
    with pytest.raises(ValueError, match="the loss of id 17 is nan"):
        largest_losses(candidates(losses=losses), 5)


def test_full_is_everything() -> None:
    assert STRATEGIES["full"].select(candidates(), request("full", None)).ids.tolist() == IDS.tolist()


@pytest.mark.parametrize("strategy", ["random", "max_loss", "full"])
@pytest.mark.parametrize("measured", [False, True])
def test_all_but_coresets_weigh_one(strategy: str, measured: bool) -> None:
    g = residuals(40, 4, 0)
    rows = {"residuals": g.astype(np.float32)} if measured else {}
    chosen = STRATEGIES[strategy].select(
        candidates(losses=np.arange(40, dtype=np.float32), **rows), request(strategy, 10)
    )
    assert chosen.weights.tolist() == [1.0] * len(chosen.ids)
    assert np.isnan(chosen.gains).all()
    assert np.isnan(chosen.value)
    if not measured:
        assert np.isnan(chosen.gradient_error)
        return
    members = np.searchsorted(IDS, chosen.ids)
    total = g.sum(axis=0)
    error = np.linalg.norm(total - 40 / len(members) * g[members].sum(axis=0)) / np.linalg.norm(total)
    assert chosen.gradient_error == pytest.approx(error, abs=1e-6)


@pytest.mark.parametrize(
    ("size", "options"),
    [
        (10, {"per_class": "equal", "objective": "rbf"}),
        (10, {"objective": "distance", "proxy": "last_layer"}),
        (None, {"tolerance": 1.0}),
    ],
)
def test_the_coreset_is_select_as_the_spec_says(size: int | None, options: dict[str, Any]) -> None:
    kind = options.get("proxy", "residual")
    ground = proxies(kind, 40, 9)
    given = candidates(residuals=ground.residuals, embeddings=ground.embeddings)
    chosen = STRATEGIES["coreset"].select(given, request("coreset", size, **options))
    direct = select(
        given.proxies(),
        budget=size,
        tolerance=options.get("tolerance"),
        objective=options.get("objective", "frobenius"),
        per_class=options.get("per_class", "proportional"),
    )
    assert chosen.ids.tolist() == direct.ids.tolist()
    assert chosen.weights.tolist() == direct.weights.tolist()
    assert chosen.gains.tolist() == direct.gains.tolist()


def test_which_strategies_need_a_forward_pass() -> None:
    assert {name: strategy.needs_proxies for name, strategy in STRATEGIES.items()} == {
        "random": False,
        "max_loss": True,
        "coreset": True,
        "full": False,
    }


@pytest.mark.parametrize("strategy", ["random", "max_loss"])
@pytest.mark.parametrize("size", [None, 0, -1, 41])
def test_a_size_is_needed_that_can_be_met(strategy: str, size: int | None) -> None:
    with pytest.raises(ValueError, match=f"size = {size}: strategy {strategy} needs at least 1, at most n = 40"):
        STRATEGIES[strategy].select(candidates(losses=np.zeros(40, np.float32)), request(strategy, size))


def test_candidates_without_what_is_needed() -> None:
    with pytest.raises(ValueError, match="without losses"):
        STRATEGIES["max_loss"].select(candidates(), request("max_loss", 3))
    with pytest.raises(ValueError, match="without residuals"):
        STRATEGIES["coreset"].select(candidates(), request("coreset", 4))


@pytest.mark.parametrize("ids", [[1, 3, 2], [1, 2, 2]])
def test_candidates_ascend(ids: list[int]) -> None:
    with pytest.raises(ValueError, match=f"row 2 has 2 after {ids[1]}"):
        Candidates(np.array(ids), np.zeros(3, np.int64))

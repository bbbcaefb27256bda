"""`select`: a weighted coreset of medoids in gradient space."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from selection.budgets import BudgetError, Division, divide
from selection.distances import Float64
from selection.gradient import gradient_error, shared_gradient_error
from selection.greedi import Partition
from selection.mapper import Mapper, SerialMapper, SharedMapper
from selection.options import check_options
from selection.problem import Measure, Memory, Objective, Problem, Solver
from selection.proxies import Float32, Int64, Proxies
from selection.randomness import stream_seed
from selection.sharing import Share, common

_NOTHING: Float32 = np.zeros((0, 1), np.float32)


@dataclass(frozen=True)
class Selection:
    """A weighted subset of the ground set, in the order in which it was picked (class after class).

    ids             (k,) the members
    weights         (k,) gamma: how many examples have the member as their nearest; sums to n
    gains           (k,) drop of the objective at each pick, from the empty set on
    value           their sum
    seconds         what computing it took, on the busiest of those who computed
    waited          what getting it took beyond that
    gradient_error  ||sum_V g - sum_S gamma g|| / ||sum_V g||, over the proxies (Eq. 8); nan where sum_V g is zero
    """

    ids: Int64
    weights: Float64
    gains: Float64
    value: float
    seconds: float
    waited: float
    gradient_error: float


def select(
    proxies: Proxies | None,
    *,
    budget: int | None = None,
    tolerance: float | None = None,
    measure: Measure = "frobenius",
    objective: Objective = "frobenius",
    solver: Solver = "exact",
    epsilon: float = 0.01,
    partitions: int = 1,
    alpha: float = 4.0,
    sample: int | None = None,
    capacity: int = 1_000_000,
    per_class: bool | Division = True,
    seed: int = 0,
    memory: Memory = "auto",
    memory_limit: int = 2 << 30,
    mapper: Mapper | None = None,
    share: Share | None = None,
) -> Selection:
    """Select medoids of the gradient proxies by greedy facility location (Eq. 9, Algorithm 1).

    budget        k medoids in all; or
    tolerance     xi: in each class, medoids until what is left is at most this, one at least.
    measure       what the tolerance bounds: frobenius: ||G_S||_F, the root of sum min d^2, whatever the objective;
                  objective: the objective's own sum, sum min d or sum (1 - max exp(-d/dim)).
    objective     frobenius (sum of min d^2), distance (sum of min d) or rbf (sum of max exp(-d/dim)).
    solver        exact: every pick has the largest marginal gain, ties by the smaller id; the drop from the empty set
                  is at least (1 - 1/e) of the best possible. lazy: the same picks by Minoux's bounds, in the least
                  memory. stochastic: each pick is the best of (n/k) ln(1/epsilon) random candidates (Mirzasoleiman et
                  al., 2015); at least 1 - 1/e - epsilon of the best in expectation.
    partitions    above 1: GreeDi. The largest class is dealt out at random to this many parts, the others in
                  proportion; each picks min(k, alpha k / parts), and greedy on their union picks k. See
                  `selection.greedi` for sample, capacity and when its guarantee holds.
    per_class     True or "proportional": class by class, the budget divided by class size; "equal": divided equally;
                  False: all examples in one problem.
    seed          of the partition, the sample and the stochastic solver; without effect on the others.
    memory        dense: all distances of a class computed once and kept, 4 n_c^2 bytes; blockwise: computed where
                  needed; auto: dense where that is faster and fits. The picks are the same.
    memory_limit  bytes that the computation may take beyond its input, a process.
    mapper        where the classes are solved; in this process, on all processors, if left out.
    share         where several processes hold the ground set together: each calls this with the proxies that it holds
                  (of the examples at `share.rows`, without weights; None for none), and gets the selection from all.

    The answer depends on the proxies and options alone: not on the order of the rows, the threads, the memory or the
    mapper. Weights sum to n, or to the sum of the proxies' own weights.
    Costs O(n_c^2 (C + D)) time for a class of n_c examples, and O(n_c (C + D)) a pick; `selection.plan` says more.
    Raises BudgetError and ValueError with the value received and the values allowed.
    """
    if (budget is None) == (tolerance is None):
        raise ValueError(f"one of budget, tolerance is needed; got budget={budget}, tolerance={tolerance}")
    if tolerance is not None:
        check_options(tolerance=tolerance)
    check_options(objective=objective, solver=solver, measure=measure, memory=memory, per_class=per_class)
    check_options(epsilon=epsilon, memory_limit=memory_limit, seed=seed)
    partition = Partition(partitions, alpha, sample, capacity)
    start = time.perf_counter()
    if share is None:
        if proxies is None:
            raise ValueError("proxies = None: only a process that shares the ground set with others can hold none")
        if not isinstance(proxies, Proxies):
            what = type(proxies).__name__
            raise ValueError(f"proxies = {what}: should be selection.Proxies(ids=…, residuals=…, labels=…)")
        if (np.diff(proxies.ids) < 0).any():
            proxies = proxies.rows(np.argsort(proxies.ids))
        ids, labels = proxies.ids, proxies.labels
    else:
        if proxies is not None and proxies.weights is not None:
            raise ValueError("weights: what several processes hold has none; should be left out")
        ids, labels = share.ids, share.labels
    groups = _groups(labels, bool(per_class))
    parts = _parts(budget, groups, "equal" if per_class == "equal" else "proportional")
    problems = [
        Problem(
            _NOTHING if proxies is None else proxies.residuals,
            None if proxies is None else proxies.embeddings,
            objective,
            parts.get(group),
            tolerance,
            measure=measure,
            solver=solver,
            epsilon=epsilon,
            seed=stream_seed(int(seed), "selection", group),
            weights=_weights(proxies, rows, group),
            memory=memory,
            limit=int(memory_limit),
            **_held(rows, share, alone=len(groups) == 1),
        )
        for group, rows in groups.items()
    ]
    if share is None:
        solved, seconds = (mapper or SerialMapper()).map(problems, partition)
    else:
        sharing = mapper or SerialMapper()
        if not isinstance(sharing, SharedMapper):
            raise ValueError(f"mapper = {type(sharing).__name__}: cannot solve what several processes hold")
        solved, seconds = sharing.map_shared(problems, partition, share.holders)
    members = np.concatenate([rows[picks.order] for rows, picks in zip(groups.values(), solved, strict=True)])
    weights = np.concatenate([picks.counts for picks in solved])
    gains = np.concatenate([picks.gains for picks in solved])
    if share is None:
        assert proxies is not None
        error = gradient_error(proxies, members, weights)
    else:
        error = shared_gradient_error(proxies, share, members, weights)
    return Selection(
        ids=ids[members],
        weights=weights,
        gains=gains,
        value=float(gains.sum()),
        seconds=seconds,
        waited=max(0.0, time.perf_counter() - start - seconds),
        gradient_error=error,
    )


def _held(rows: npt.NDArray[Any], share: Share | None, *, alone: bool) -> dict[str, Any]:
    """Which rows of the proxies are a group's; of a share, also which examples of the group these are."""
    if share is None:
        return {"rows": None if alone else rows}
    places, here = common(share.rows, rows)
    return {"rows": here, "places": places, "size": len(rows)}


def _weights(proxies: Proxies | None, rows: npt.NDArray[Any], group: int) -> Float64 | None:
    if proxies is None or proxies.weights is None:
        return None
    weights = proxies.weights[rows]
    if not weights.any():
        raise ValueError(f"weights: those of class {group} are all 0; at least one should be above 0")
    return weights


def _groups(labels: Int64, per_class: bool) -> dict[int, npt.NDArray[Any]]:
    if not per_class:
        return {0: np.arange(len(labels))}
    order = np.argsort(labels, kind="stable")
    classes, starts = np.unique(labels[order], return_index=True)
    return dict(zip(classes.tolist(), np.split(order, starts[1:]), strict=True))


def _parts(budget: int | None, groups: dict[int, npt.NDArray[Any]], division: Division) -> dict[int, int]:
    if budget is None:
        return {}
    if isinstance(budget, bool) or not isinstance(budget, int | np.integer) or budget < 1:
        raise BudgetError(f"budget = {budget!r}: should be a whole number, at least 1")
    return divide(int(budget), {group: len(rows) for group, rows in groups.items()}, division)

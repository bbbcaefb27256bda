"""`select`: a weighted coreset of medoids in gradient space."""

import time
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from selection.budgets import BudgetError, Division, divide
from selection.distances import Float64
from selection.gradient import gradient_error
from selection.mapper import Mapper, SerialMapper
from selection.problem import Objective, Problem
from selection.proxies import Int64, Proxies


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
    proxies: Proxies,
    *,
    budget: int | None = None,
    tolerance: float | None = None,
    objective: Objective = "frobenius",
    solver: Literal["exact"] = "exact",
    per_class: bool | Division = True,
    mapper: Mapper | None = None,
) -> Selection:
    """Select medoids of the gradient proxies by greedy facility location (Eq. 9, Algorithm 1).

    budget     k medoids in all; or
    tolerance  xi: in each class, medoids until ||G_S||_F <= xi, one at least.
    objective  frobenius (sum of min d^2), distance (sum of min d) or rbf (sum of max exp(-d/dim)).
    solver     exact: every pick has the largest marginal gain, ties by the smaller id; the drop from the empty set is
               at least (1 - 1/e) of the best possible.
    per_class  True or "proportional": class by class, the budget divided by class size; "equal": divided equally;
               False: all examples in one problem.
    mapper     where the classes are solved; in this process if left out.

    The answer depends on the proxies and options alone: not on the order of the rows, the threads or the mapper.
    Costs O(n_c^2 (C + D)) time to start a class of n_c examples, and 4 n_c^2 bytes.
    Raises BudgetError and ValueError with the value received and the values allowed.
    """
    if (budget is None) == (tolerance is None):
        raise ValueError(f"one of budget, tolerance is needed; got budget={budget}, tolerance={tolerance}")
    if tolerance is not None and not tolerance > 0:
        raise ValueError(f"tolerance = {tolerance}: should be above 0")
    if objective not in ("frobenius", "distance", "rbf"):
        raise ValueError(f"objective = {objective!r}: should be frobenius, distance or rbf")
    if solver != "exact":
        raise ValueError(f"solver = {solver!r}: should be exact")
    if per_class not in (True, False, "proportional", "equal"):
        raise ValueError(f"per_class = {per_class!r}: should be True, False, 'proportional' or 'equal'")
    start = time.perf_counter()
    proxies = proxies.rows(np.argsort(proxies.ids))
    groups = _groups(proxies.labels, bool(per_class))
    parts = _parts(budget, groups, "equal" if per_class == "equal" else "proportional")
    problems = [
        Problem(
            proxies.residuals[rows],
            None if proxies.embeddings is None else proxies.embeddings[rows],
            objective,
            parts.get(group),
            tolerance,
        )
        for group, rows in groups.items()
    ]
    solved, seconds = (mapper or SerialMapper()).map(problems)
    members = np.concatenate([rows[picks.order] for rows, picks in zip(groups.values(), solved, strict=True)])
    weights = np.concatenate([picks.counts for picks in solved]).astype(np.float64)
    gains = np.concatenate([picks.gains for picks in solved])
    error = gradient_error(proxies, members, weights)
    return Selection(
        ids=proxies.ids[members],
        weights=weights,
        gains=gains,
        value=float(gains.sum()),
        seconds=seconds,
        waited=max(0.0, time.perf_counter() - start - seconds),
        gradient_error=error,
    )


def _groups(labels: Int64, per_class: bool) -> dict[int, npt.NDArray[Any]]:
    if not per_class:
        return {0: np.arange(len(labels))}
    return {int(label): np.flatnonzero(labels == label) for label in np.unique(labels)}


def _parts(budget: int | None, groups: dict[int, npt.NDArray[Any]], division: Division) -> dict[int, int]:
    if budget is None:
        return {}
    if isinstance(budget, bool) or not isinstance(budget, int | np.integer) or budget < 1:
        raise BudgetError(f"budget = {budget!r}: should be a whole number, at least 1")
    return divide(int(budget), {group: len(rows) for group, rows in groups.items()}, division)

"""The device's solver in plain torch against the CPU's; its kernels, interpreted, against plain torch."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from facility_location import OBJECTIVES, PROXIES, definition, embeddings, proxies, residuals

from selection import Proxies, ProxyError, greedy, select
from selection.device import DeviceMapper, DeviceProblem, solve_on_device
from selection.device.sampling import draw_keys, stream_word
from selection.problem import Picks, Problem
from selection.randomness import draw_words

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


def on_cpu(problem: Problem) -> Any:
    given = (problem.residuals, problem.embeddings, problem.objective, problem.budget, problem.tolerance)
    return greedy.solve(Problem(*given))


def solve(problem: Problem | DeviceProblem) -> Picks:
    return solve_on_device([problem], CPU)[0]


def points(n: int, columns: int = 4, seed: int = 0) -> Any:
    return residuals(n, columns, seed).astype(np.float32)


def agree(one: Any, other: Any) -> None:
    assert one.order.tolist() == other.order.tolist()
    assert one.counts.tolist() == other.counts.tolist()
    np.testing.assert_allclose(one.gains, other.gains, rtol=1e-5)


@pytest.mark.parametrize("memory", ["dense", "blockwise"])
@pytest.mark.parametrize("kind", PROXIES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_picks_are_those_of_the_cpu(objective: Any, kind: str, memory: Any) -> None:
    ground = proxies(kind, 150, 3)
    for ask in ({"budget": 60, "tolerance": None}, {"budget": None, "tolerance": 4.0}):
        problem = Problem(ground.residuals, ground.embeddings, objective, **ask, memory=memory)
        agree(solve(problem), on_cpu(problem))


@pytest.mark.parametrize("memory", ["dense", "blockwise"])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(
    ("rows", "k"),
    [
        (np.zeros((5, 3)), 5),
        (np.ones((7, 2)), 7),
        (np.ones((1, 1)), 1),
        (np.repeat(residuals(6, 3, 1), 4, axis=0), 24),
        (1e30 * residuals(40, 4, 2), 40),
        (1e-30 * residuals(40, 4, 2), 20),
        (np.array([[0.0], [3.0], [6.0], [9.0]]), 4),
        (np.concatenate([1e6 * np.ones((1, 3)), residuals(30, 3, 4)]), 15),
        (1e4 + residuals(30, 3, 4), 30),
    ],
    ids=["zeros", "identical", "one", "duplicates", "huge", "tiny", "line", "outlier", "far"],
)
def test_hard_inputs(rows: Any, k: int, objective: Any, memory: Any) -> None:
    problem = Problem(rows.astype(np.float32), None, objective, k, None, memory=memory)
    found, expected = solve(problem), on_cpu(problem)
    if objective == "frobenius" and rows.max() == 1e6:  # beside its squares, the others' differences are rounding
        assert found.gains.sum() == pytest.approx(expected.gains.sum(), rel=1e-5)
        return
    agree(found, expected)


@pytest.mark.parametrize("memory", ["dense", "blockwise"])
def test_weights_and_candidates(memory: Any) -> None:
    ground = proxies("residual", 60, 7)
    truth = definition(ground, "frobenius")
    weights = np.where(np.arange(60) % 5 == 0, 0.0, 0.5 + np.arange(60) % 3)
    candidates = np.arange(1, 60, 2)
    problem = Problem(
        ground.residuals, None, "frobenius", 12, None, weights=weights, candidates=candidates, memory=memory
    )
    picks = solve(problem)
    least = np.full(60, truth.empty)
    for pick, gain in zip(picks.order, picks.gains, strict=True):
        gains = np.full(60, -1.0)
        gains[candidates] = (weights[:, None] * np.maximum(0, least[:, None] - truth.costs[:, candidates])).sum(axis=0)
        assert gain == pytest.approx(gains[pick], rel=1e-5)
        assert gains[pick] >= gains.max() * (1 - 1e-5)
        least = np.minimum(least, truth.costs[pick])
    order = np.sort(picks.order)
    nearest = order[truth.costs[:, order].argmin(axis=1)]
    assert picks.counts.tolist() == [weights[nearest == pick].sum() for pick in picks.order]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_tolerance_of_the_objective_itself(objective: Any) -> None:
    ground = proxies("residual", 50, 2)
    truth = definition(ground, objective)
    every = solve(Problem(ground.residuals, None, objective, 50, None)).order
    left = np.array([truth.least(every[:k]).sum() for k in range(1, 51)])
    left = np.sqrt(left) if objective == "frobenius" else left
    problem = Problem(ground.residuals, None, objective, None, float(left[16] * (1 + 1e-5)), measure="objective")
    assert solve(problem).order.tolist() == every[:17].tolist()


def test_draws_are_those_of_the_cpu() -> None:
    keys = draw_keys(torch.tensor([stream_word(2**63 + 5)]), torch.tensor([7]), 1000)[0]
    words = draw_words(2**63 + 5, "selection", 7, np.arange(1000))
    assert keys.argsort().tolist() == np.argsort(words).tolist()


@pytest.mark.parametrize("memory", ["dense", "blockwise"])
def test_stochastic_takes_the_best_of_its_sample(memory: Any) -> None:
    ground = proxies("residual", 90, 5)
    truth = definition(ground, "distance")
    problem = Problem(ground.residuals, None, "distance", 30, None, solver="stochastic", epsilon=0.1, memory=memory)
    picks = solve(problem).order.tolist()
    for step, pick in enumerate(picks):
        left = np.setdiff1d(np.arange(90), picks[:step])
        sample = left[np.argsort(draw_words(0, "selection", step, left))][:7]  # 3 ln 10 = 6.9
        gains = truth.gains(picks[:step])
        assert pick in sample
        assert gains[pick] >= gains[sample].max() * (1 - 1e-5)


def test_lazy_is_exact() -> None:
    lazy, exact = (solve(Problem(points(70), None, "rbf", 30, None, solver=solver)) for solver in ("lazy", "exact"))
    agree(lazy, exact)


@pytest.mark.parametrize("solver", ["exact", "stochastic"])
def test_the_answer_does_not_depend_on_the_batch(solver: Any) -> None:
    asked: list[Problem] = [
        Problem(points(n, seed=n), None, "distance", budget, None if budget else 2.0, solver=solver, seed=n)
        for n in (1, 5, 60, 64, 65, 90, 120, 200)
        for budget in (max(1, n // 3), None)
    ]
    together, again = solve_on_device(asked, CPU), solve_on_device(asked, CPU, limit=600_000)
    for problem, one, other in zip(asked, together, again, strict=True):
        alone = solve(problem)
        for found in (one, other):
            assert found.order.tolist() == alone.order.tolist()
            assert found.counts.tolist() == alone.counts.tolist()
            assert found.gains.tolist() == alone.gains.tolist()


def test_tensors_in_other_formats() -> None:
    tensor = torch.from_numpy(points(80)).bfloat16()
    h = torch.from_numpy(embeddings(80, 5, 1)).bfloat16()
    found = solve(DeviceProblem(tensor, h, "frobenius", 20, None))
    agree(found, on_cpu(Problem(tensor.float().numpy(), h.float().numpy(), "frobenius", 20, None)))


def test_costs_beyond_the_limit_are_not_kept() -> None:
    kept, computed = (Problem(points(100), None, "frobenius", 30, None, limit=limit) for limit in (1 << 30, 1000))
    agree(solve(kept), solve(computed))
    with pytest.raises(MemoryError, match="blockwise"):
        solve_on_device([Problem(points(100), None, "frobenius", 3, None, memory="dense")], CPU, limit=1000)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    rows = torch.from_numpy(points(10))
    rows[3, 1] = bad
    with pytest.raises(ProxyError, match="finite"):
        solve(DeviceProblem(rows, None, "frobenius", 3, None))
    with pytest.raises(ValueError, match="budget = 11: should be at least 1 and at most 10"):
        DeviceProblem(rows, None, "frobenius", 11, None)


@pytest.mark.parametrize("kind", PROXIES)
def test_select_on_a_device(kind: str) -> None:
    ground = proxies(kind, 200, 6)
    ground = Proxies(ground.ids, ground.residuals, np.arange(200) % 7, ground.embeddings)
    here, there = select(ground, budget=60), select(ground, budget=60, mapper=DeviceMapper("cpu"))
    assert here.ids.tolist() == there.ids.tolist()
    assert here.weights.tolist() == there.weights.tolist()
    np.testing.assert_allclose(here.gains, there.gains, rtol=1e-5)


INTERPRETED = """
import sys
import numpy as np
sys.path.insert(0, "tests/selection")
from facility_location import embeddings, residuals
from selection.device import blockwise, dense, solve_on_device
from selection.problem import Problem

h = embeddings(90, 3, 1).astype(np.float32)
asked = [
    Problem(rows.astype(np.float32), with_h, objective, 12, None, memory=memory, solver=solver, weights=weights)
    for objective in ("frobenius", "distance", "rbf")
    for rows, with_h in ((residuals(90, 4, 1), None), (1e4 + np.repeat(residuals(5, 3, 2), 3, 0), None),
                         (residuals(90, 3, 3), h))
    for memory in ("dense", "blockwise")
    for solver, weights in (("exact", None), ("stochastic", np.linspace(0.0, 2.0, len(rows))))
]
assert dense.has_kernels(dense.torch.device("cpu"))
kernels = solve_on_device(asked, "cpu")
dense.has_kernels = blockwise.has_kernels = lambda device: False
plain = solve_on_device(asked, "cpu")
for one, other in zip(kernels, plain, strict=True):
    assert one.order.tolist() == other.order.tolist()
    assert one.counts.tolist() == other.counts.tolist()
    np.testing.assert_allclose(one.gains, other.gains, rtol=1e-5)
"""


def test_the_kernels_answer_as_plain_torch_does() -> None:
    pytest.importorskip("triton")
    run_alone(INTERPRETED, TRITON_INTERPRET="1")


COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from selection.device import filling, stepping

WORDS = {"f": "*fp32", "d": "*fp64", "l": "*i64", "i": "*i32", "b": "*i8", "n": "i32"}

def compiled(kernel, kinds, **constants):
    names = [name for name in kernel.arg_names if name not in constants]
    signature = dict(zip(names, (WORDS[kind] for kind in kinds), strict=True))
    signature = {name: signature.get(name, "constexpr") for name in kernel.arg_names}
    source = ASTSource(kernel, signature, constexprs=constants)
    assert triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]

for outer, code in ((False, 0), (False, 2), (True, 1)):
    shape = {"BM": 32, "BN": 32, "OUTER": outer, "CODE": code}
    compiled(filling._costs, "fdfdfdfddfnnnnnnfn", **shape)
    compiled(filling._gains, "fdfdfdfddfnnnnnnfddl", **shape)
for sampled in (False, True):
    compiled(stepping._pick, "ffbiiiiildlilliiifnnn", SAMPLED=sampled, BLOCKS=32, CHUNK=1024)
compiled(stepping._correct, "ffdbliiliiiifn", ROWS=16, COLUMNS=64)
"""


def test_the_kernels_compile_for_a_gpu() -> None:
    pytest.importorskip("triton")  # its compiler needs no GPU
    run_alone(COMPILED)


def test_selection_does_without_torch() -> None:
    run_alone("import sys, selection; assert 'torch' not in sys.modules and 'triton' not in sys.modules")


def run_alone(code: str, **variables: str) -> None:
    """Run code in a process of its own: Triton decides when it is imported whether it interprets."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr

"""Processes and nodes of a cluster are killed while a sweep of eight trials runs on it: it ends as one undisturbed."""

import random
from collections.abc import Iterator

import pytest

from integration.chaos import Chaos, undisturbed

PATIENCE = 500.0


@pytest.fixture(scope="module")
def chaos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Chaos, float]]:
    expected, span = undisturbed(tmp_path_factory.mktemp("undisturbed") / "sweep")
    made = Chaos(tmp_path_factory.mktemp("chaos"), expected)
    yield made, span
    made.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "kinds", [["shard", "trial", "coordinator"], ["rank", "driver"], ["node", "trial"]], ids="+".join
)
def test_a_sweep_survives(chaos: tuple[Chaos, float], kinds: list[str]) -> None:
    made, span = chaos
    seed = random.randrange(2**32)
    outcome = made.run(seed, random.Random(seed), kinds, span, PATIENCE)
    assert not outcome.wrong, f"seed {seed}: {outcome.wrong}\n{outcome.faults}\n{outcome.last_output}"

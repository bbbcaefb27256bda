"""A sweep of eight trials, during which processes, nodes and servers are killed: it ends as one undisturbed."""

import os
import random
from collections.abc import Iterator

import pytest

from integration.chaos import MLFLOW, S3, Chaos, Servers, undisturbed

PATIENCE = 500.0


@pytest.fixture(scope="module")
def chaos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Chaos, float]]:
    expected, span = undisturbed(tmp_path_factory.mktemp("undisturbed") / "sweep")
    before = dict(os.environ)
    try:
        with Servers(tmp_path_factory.mktemp("server")) as servers:  # their keys are in the environment
            made = Chaos(tmp_path_factory.mktemp("chaos"), expected, servers, outage=5.0)
            yield made, span
            made.close()
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "kinds",
    [["shard", "trial", "coordinator", MLFLOW], ["rank", "driver", S3], ["node", "trial"]],
    ids="+".join,
)
def test_a_sweep_survives(chaos: tuple[Chaos, float], kinds: list[str]) -> None:
    made, span = chaos
    seed = random.randrange(2**32)
    outcome = made.run(seed, random.Random(seed), kinds, span, PATIENCE)
    assert not outcome.wrong, f"seed {seed}: {outcome.wrong}\n{outcome.faults}\n{outcome.last_output}"

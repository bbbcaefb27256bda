"""Learning rates against hand-computed ones."""

import math

import pytest

from specs.training import Training
from workers.schedule import learning_rate

HALF = math.sqrt(0.5)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ({"name": "constant"}, [0.4] * 8),
        ({"name": "constant", "warmup_epochs": 4}, [0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.4, 0.4]),
        ({"name": "milestones", "milestones": [2, 5], "gamma": 0.5}, [0.4, 0.4, 0.2, 0.2, 0.2, 0.1, 0.1, 0.1]),
        (
            {"name": "milestones", "milestones": [1, 5], "gamma": 0.5, "warmup_epochs": 2},
            [0.2, 0.4, 0.2, 0.2, 0.2, 0.1, 0.1, 0.1],
        ),
        (
            {"name": "cosine", "warmup_epochs": 4},  # then quarters of half a cosine
            [0.1, 0.2, 0.3, 0.4, 0.4, 0.2 * (1 + HALF), 0.2, 0.2 * (1 - HALF)],
        ),
    ],
)
def test_rates(schedule: dict[str, object], rates: list[float]) -> None:
    training = Training.model_validate(
        {"regime": "subset", "epochs": 8, "schedule": schedule, "optimizer": {"learning_rate": 0.4}}
    )
    assert [learning_rate(training, epoch) for epoch in range(8)] == pytest.approx(rates, rel=1e-12)


def test_cosine_without_warm_up_starts_at_the_peak_and_ends_above_zero() -> None:
    training = Training(regime="subset", epochs=4)
    rates = [learning_rate(training, epoch) for epoch in range(4)]
    assert rates == pytest.approx([0.1, 0.05 * (1 + HALF), 0.05, 0.05 * (1 - HALF)])


def test_a_warm_up_as_long_as_the_training_is_allowed() -> None:
    training = Training.model_validate(
        {"regime": "subset", "epochs": 2, "schedule": {"name": "cosine", "warmup_epochs": 2}}
    )
    assert [learning_rate(training, epoch) for epoch in range(2)] == pytest.approx([0.05, 0.1])

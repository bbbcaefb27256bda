"""What fits on a cluster, and what never will."""

import pytest

from orchestrator.cluster import Node, PlacementError, concurrent_trials
from specs.resources import Resources


def resources(**fields: int) -> Resources:
    return Resources.model_validate(fields)


@pytest.mark.parametrize(
    ("wanted", "cluster", "fit"),
    [
        ({}, [Node(2, 0)], 2),
        ({"cpus": 2}, [Node(3, 0), Node(3, 0)], 2),  # the odd cores cannot be joined
        ({"workers": 2, "cpus": 2}, [Node(4, 0), Node(2, 0)], 1),
        ({"workers": 3}, [Node(2, 0), Node(1, 0)], 1),  # one trial over two nodes
        ({"gpus": 1}, [Node(16, 2), Node(16, 0)], 2),
        ({"gpus": 1, "cpus": 8}, [Node(8, 4)], 1),
    ],
)
def test_trials_at_once(wanted: dict[str, int], cluster: list[Node], fit: int) -> None:
    assert concurrent_trials(resources(**wanted), cluster) == fit


@pytest.mark.parametrize(
    ("wanted", "cluster", "said"),
    [
        ({"cpus": 3}, [Node(2, 0), Node(2, 0)], "cpus = 3"),
        ({"gpus": 1}, [Node(64, 0)], "gpus = 1"),
        ({"workers": 3}, [Node(2, 0)], "of which 2 fit"),
        ({}, [], "no nodes"),
    ],
)
def test_what_can_never_be_placed_is_refused(wanted: dict[str, int], cluster: list[Node], said: str) -> None:
    with pytest.raises(PlacementError, match=said):
        concurrent_trials(resources(**wanted), cluster)

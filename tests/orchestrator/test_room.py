"""Nodes that join are used; trials that fit nowhere any more are not waited for for ever."""

import pytest
from ray.tune.search.basic_variant import BasicVariantGenerator

from orchestrator.cluster import Node, PlacementError
from orchestrator.room import Room
from specs.resources import Resources

ONE, TWO, GPU = Resources(), Resources(workers=2), Resources(gpus=1)


class Cluster:
    def __init__(self, *nodes: Node):
        self.nodes = list(nodes)

    def __call__(self) -> list[Node]:
        return self.nodes


def room(cluster: Cluster, **resources: Resources) -> Room:
    return Room(resources, BasicVariantGenerator(), [].append, patience=60.0, cluster=cluster)


def test_a_node_that_joins_later_is_used() -> None:
    cluster = Cluster(Node(2, 0))
    made = room(cluster, a=TWO, b=TWO, c=TWO)
    made.look(0.0, set())
    assert made.search.max_concurrent == 1
    cluster.nodes.append(Node(4, 0))
    made.look(5.0, set())
    assert made.search.max_concurrent == 3
    del cluster.nodes[0]
    made.look(10.0, set())
    assert made.search.max_concurrent == 2


def test_trials_of_one_worker_are_not_held_back_by_those_of_several() -> None:
    made = room(Cluster(Node(8, 0)), a=ONE, b=TWO)
    made.look(0.0, set())
    assert made.search.max_concurrent == 8


def test_tune_counts_itself_where_it_reserves_everything() -> None:
    made = room(Cluster(Node(8, 0)), a=ONE, b=GPU)
    made.look(0.0, set())
    assert made.search.max_concurrent == 0  # no bound


def test_what_fits_nowhere_any_more_ends_the_sweep_after_a_while() -> None:
    cluster = Cluster(Node(4, 1), Node(2, 0))
    made = room(cluster, a=ONE, b=GPU)
    made.look(0.0, set())
    del cluster.nodes[0]
    made.look(5.0, set())
    made.look(500.0, set())  # another can still go on
    made.look(505.0, {"a"})
    made.look(560.0, {"a"})
    with pytest.raises(PlacementError, match=r"gpus = 1 each, of which 0 fit; .* none came for 60 s"):
        made.look(570.0, {"a"})


def test_a_node_that_comes_in_time_is_taken() -> None:
    cluster = Cluster(Node(4, 1))
    made = room(cluster, a=GPU)
    cluster.nodes.clear()
    made.look(0.0, set())
    made.look(59.0, set())
    cluster.nodes.append(Node(4, 1))
    made.look(61.0, set())
    cluster.nodes.clear()
    made.look(70.0, set())
    made.look(129.0, set())  # counted anew
    with pytest.raises(PlacementError):
        made.look(131.0, set())


def test_a_sweep_that_is_over_lacks_nothing() -> None:
    made = room(Cluster(), a=GPU)
    made.look(0.0, {"a"})
    made.look(100.0, {"a"})

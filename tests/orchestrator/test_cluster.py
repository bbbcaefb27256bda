"""What fits on a cluster, and what never will."""

from pathlib import Path

import pytest

from orchestrator.cluster import ClusterError, Node, PlacementError, concurrent_trials, configure, connect
from orchestrator.jobs.token import TokenError
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


@pytest.mark.parametrize(
    ("mine", "at_once", "pending", "shares"),
    [
        ({"cpus": 2}, {"cpus": 2}, 8, False),  # one at a time
        ({"cpus": 1}, {"cpus": 1}, 8, True),
        ({"cpus": 1}, {"cpus": 1}, 1, False),
        ({"gpus": 1}, {"gpus": 1}, 8, False),  # each on a GPU of its own
    ],
)
def test_speed_is_measured_where_a_trial_has_its_device_to_itself(
    mine: dict[str, float], at_once: dict[str, float], pending: int, shares: bool
) -> None:
    configure()
    from orchestrator.sweep import shares_device

    machine = [Node(2, 2)]
    kind = Resources.model_validate(at_once)
    fit = concurrent_trials(kind, machine)
    assert shares_device(Resources.model_validate(mine), {kind: fit}, pending) is shares


class TestToken:
    def test_a_cluster_is_not_joined_without_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        with pytest.raises(TokenError, match=r"no token for 127\.0\.0\.1:1"):
            connect("127.0.0.1:1")

    def test_where_nothing_listens_there_is_no_cluster(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
        with pytest.raises(ClusterError, match=r"no cluster answers at 127\.0\.0\.1:1: .*refused"):
            connect("127.0.0.1:1")

    @pytest.mark.parametrize("address", [None, "127.0.0.1:1"])
    def test_authentication_cannot_be_switched_off(self, address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
        with pytest.raises(TokenError, match="RAY_AUTH_MODE = 'disabled'"):
            connect(address)


def test_keys_of_s3_are_not_sent_with_trials_actors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray writes what an actor's runtime environment holds into the logs of its node."""
    configure()
    from ray.tune import Trainable
    from ray.tune.execution.class_cache import _ActorClassCache

    from orchestrator.sweep import _keep_keys

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "s3cret")
    _keep_keys()
    actor = _ActorClassCache().get(Trainable)
    sent = actor._default_options["runtime_env"]["env_vars"]
    assert sent, "Tune has found another way; look whether that one keeps secrets"
    assert "s3cret" not in sent.values()


@pytest.mark.parametrize("failures", [2, 3])
def test_ray_that_did_not_start_is_started_again(failures: int, monkeypatch: pytest.MonkeyPatch) -> None:
    configure()
    import ray

    tried = []

    def init(**options: object) -> None:
        tried.append(options["address"])
        if len(tried) <= failures:
            raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", init)
    if failures == 2:
        connect(None)
    else:
        with pytest.raises(ClusterError, match=r"^Ray does not start here, tried 3 times: The current node timed out"):
            connect(None)
    assert tried == ["local"] * 3

import json
from pathlib import Path

import pytest
from scripts import run_script


def test_busy_is_the_share_of_time_that_trials_had() -> None:
    from busy_cluster import busy

    # two GPUs; counted from 2, when both are taken, to 14, when the last trial begins
    spans = [(0.0, 10.0), (2.0, 12.0), (10.5, 20.5), (14.0, 24.0)]
    found = busy(spans, 2)
    assert found["window_s"] == 12.0
    assert found["busy"] == pytest.approx((8 + 10 + 3.5) / 24, abs=1e-4)
    assert found["mean_lag_s"] == pytest.approx((0.5 + 2.0) / 2)
    assert found["largest_lag_s"] == 2.0


@pytest.mark.slow
def test_goes_through_the_sweeps_own_scheduling(tmp_path: Path) -> None:
    small = ("--gpus", 4, "--rounds", 3, "--seconds", 2, "--results", tmp_path)
    ran = run_script("busy_cluster.py", *small)
    assert ran.returncode in (0, 1), ran.stderr
    found = json.loads((tmp_path / "busy_cluster.json").read_text())
    assert (found["trials"], found["torch_in_actors"]) == (12, False)
    assert 0.3 < found["busy"] <= 1.0

import json
from pathlib import Path

import pytest
from scripts import run_script


@pytest.mark.slow
def test_every_metric_is_there_once(tmp_path: Path) -> None:
    ran = run_script("tracking_scale.py", "--runs", 6, "--epochs", 3, "--results", tmp_path)
    assert ran.returncode in (0, 1), ran.stderr
    found = json.loads((tmp_path / "tracking_scale.json").read_text())
    assert found["complete"]
    assert found["training_pace"]["calls"] == 3 * (3 + 2)

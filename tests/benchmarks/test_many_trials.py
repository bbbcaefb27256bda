import json
from pathlib import Path

import pytest
from scripts import run_script


@pytest.mark.slow
def test_a_sweep_is_killed_goes_on_and_is_measured(tmp_path: Path) -> None:
    ran = run_script("many_trials.py", "--trials", 80, "--results", tmp_path)
    assert ran.returncode in (0, 1), ran.stderr
    found = json.loads((tmp_path / "many_trials.json").read_text())
    assert found["to_the_kill"]["trials"] >= 40
    assert found["to_the_kill"]["trials"] + found["between"] + found["after_it"]["trials"] == 80

import json
from pathlib import Path

from scripts import run_script

ABSENT = ("ray", "mlflow", "pydantic", "torchvision", "scipy", "rich")


def test_takes_every_figure_once_however_often_it_is_called(tmp_path: Path) -> None:
    path = tmp_path / "rounds.json"
    small = ("--device", "cpu", "--small", "--results", path)
    all_of_them = run_script("selection_gpu.py", *small, absent=ABSENT)
    assert all_of_them.returncode == 0, all_of_them.stderr
    found = path.read_bytes()
    parts = json.loads(found)["parts"]
    assert {name: (len(part["device_s"]), len(part["cpu_s"])) for name, part in parts.items()} == {
        "five": (3, 3),
        "imagenet": (2, 2),
        "million": (2, 2),
    }
    again = run_script("selection_gpu.py", *small, "--minutes", 0, absent=ABSENT)
    assert (again.returncode, again.stdout) == (0, all_of_them.stdout)
    assert path.read_bytes() == found

"""Subsets with a given share of wrong labels, in miniature."""

import json
from pathlib import Path

import pytest
from scripts import run_script

from small_images import write_images

SMALL = ("training.epochs=2", "training.schedule.milestones=[1]", "dataset.train_per_class=10", "selection.every=1")


@pytest.mark.slow
def test_subsets_have_the_share_asked_for(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", train=10, test=2, height=32, width=32)
    given = ["--root", images, "--seeds", 1]
    given += ["--storage", tmp_path / "runs", "--results", tmp_path]
    given += [part for override in SMALL for part in ("--set", override)]
    ran = run_script("table5_shares.py", *given)
    assert ran.returncode == 0, ran.stderr
    found = {row["name"]: row for row in json.loads((tmp_path / "table5_shares.json").read_text())["ways"]}
    assert [len(row["test_accuracy"]["values"]) for row in found.values()] == [1] * 6
    # of 10 of the 20, half of which are wrong
    asked = {"coreset at 0.5": 0.5, "random at 0.57": 0.6, "max_loss at 0.5": 0.5, "random at 0.72": 0.7}
    assert {name: found[name]["mislabelled"] for name in asked} == asked

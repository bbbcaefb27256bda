"""Subsets with a given share of wrong labels, in miniature."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scripts import run_script

SMALL = ("training.epochs=2", "training.schedule.milestones=[1]", "dataset.train_per_class=10", "selection.every=1")


@pytest.mark.slow
def test_subsets_have_the_share_asked_for(tmp_path: Path) -> None:
    stream = np.random.default_rng(0)
    for split, count in (("train", 10), ("test", 2)):
        for label in ("cat", "dog"):
            (tmp_path / "images" / split / label).mkdir(parents=True)
            for number in range(count):
                pixels = stream.integers(0, 256, (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / split / label / f"{number}.png")
    given = ["--root", tmp_path / "images", "--seeds", 1, "--storage", tmp_path / "runs", "--results", tmp_path]
    given += [part for override in SMALL for part in ("--set", override)]
    ran = run_script("table5_shares.py", *given)
    assert ran.returncode == 0, ran.stderr
    found = {row["name"]: row for row in json.loads((tmp_path / "table5_shares.json").read_text())["ways"]}
    assert [len(row["test_accuracy"]["values"]) for row in found.values()] == [1] * 6
    # of 10 of the 20, half of which are wrong
    asked = {"coreset at 0.5": 0.5, "random at 0.57": 0.6, "max_loss at 0.5": 0.5, "random at 0.72": 0.7}
    assert {name: found[name]["mislabelled"] for name in asked} == asked

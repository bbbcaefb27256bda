"""A whole sweep through the command line: on Ray, again, with more seeds, and in one process."""

import itertools
import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from integration.sweeps import SPEC, Sweep


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    sweep = Sweep(tmp_path_factory.mktemp("swept"))
    sweep.first_output = sweep.run()  # type: ignore[attr-defined]
    return sweep


@pytest.fixture(scope="module")
def inline(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    sweep = Sweep(tmp_path_factory.mktemp("inline"))
    sweep.run("--inline")
    return sweep


def _results(sweep: Sweep) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in sweep.trials().glob("*/result.json")}


def test_results_on_ray_equal_those_of_one_process_byte_for_byte(swept: Sweep, inline: Sweep) -> None:
    assert len(_results(swept)) == 4
    assert _results(swept) == _results(inline)
    selections = {path.name: path.read_bytes() for path in swept.trials().glob("*/selections/*.npz")}
    assert selections
    assert selections == {path.name: path.read_bytes() for path in inline.trials().glob("*/selections/*.npz")}


def test_the_output_ends_with_table_report_and_ui(swept: Sweep) -> None:
    output = swept.first_output  # type: ignore[attr-defined]
    assert "4 trials" in output
    for strategy in ("none", "random", "max_loss", "coreset"):
        assert f"{strategy} 25% seed 0: finished" in output
    assert "mean ± standard deviation" in " ".join(output.split())  # a narrow table wraps its title
    assert f"report: {swept.folder}/runs/tiny/report/index.html" in output
    assert "medoid ui tiny" in output


def test_running_again_runs_nothing(swept: Sweep) -> None:
    before = {path: path.stat().st_mtime_ns for path in swept.trials().rglob("*") if path.is_file()}
    output = swept.run()
    assert "4 already finished" in output
    assert "starting Ray" not in output
    assert before == {path: path.stat().st_mtime_ns for path in swept.trials().rglob("*") if path.is_file()}


def test_nothing_but_results_is_left_behind(swept: Sweep) -> None:
    kinds = {path.relative_to(swept.trials()).parts[1] for path in swept.trials().rglob("*") if path.is_file()}
    assert kinds == {"result.json", "times.json", "selections"}
    assert not list((swept.folder / "runs").rglob("*.part"))
    swept.wait_until_gone(60, title="")  # Ray's own agents end a moment after it


def test_mlflow_holds_every_trial_with_its_curve_and_selections(swept: Sweep) -> None:
    with sqlite3.connect(swept.folder / "runs/tiny/tracking/mlflow.db") as store:
        children = dict(
            store.execute(
                "select value, run_uuid from tags where key = 'trial_id' or key = 'medoid.trial_id'"
            ).fetchall()
        )
        assert set(children) == set(_results(swept))
        for trial, run in children.items():
            steps = store.execute(
                "select step, value from metrics where run_uuid = ? and key = 'test_accuracy' order by step", (run,)
            ).fetchall()
            epochs = json.loads(_results(swept)[trial])["epochs"]
            assert steps == [(epoch["epoch"], epoch["test_accuracy"]) for epoch in epochs]
            status = store.execute("select status from runs where run_uuid = ?", (run,)).fetchone()
            assert status == ("FINISHED",)
        assert store.execute("select count(*) from runs").fetchone() == (5,)


def test_another_seed_runs_only_what_is_missing(swept: Sweep, inline: Sweep) -> None:
    before = _results(inline)
    output = inline.run("--inline", "--set", "seeds=[0, 1]")
    assert "8 trials, 4 already finished" in output
    after = _results(inline)
    assert len(after) == 8
    assert before.items() <= after.items()


def test_a_failing_trial_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    spec = SPEC.replace("learning_rate: 0.05", "learning_rate: 0.05, momentum: 0.0")
    sweep = Sweep(tmp_path, spec.replace("sweep:", "seeds: [3]\nsweep:"))
    # a learning rate that makes one of two trials overflow
    process = sweep.start(
        "--inline",
        "--set",
        "sweep.grid={training.optimizer.learning_rate: [0.05, 1e30], selection.strategy: [random]}",
    )
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    assert "failed: DivergedError: " in output
    assert "epoch 1" in output
    assert len(_results(sweep)) == 1
    assert [json.loads(path.read_text())["epoch"] for path in sweep.trials().glob("*/error.json")] == [0]


OVERLAPPED = (
    SPEC.replace("regime: subset", "regime: full+augmented")
    .replace("every: 2}\ncheckpoints", "every: 3, mode: overlapped, lag: 2}\ncheckpoints")
    .replace("[none, random, max_loss, coreset]", "[coreset], selection.proxy_source: [forward, harvest]")
)


@pytest.mark.slow
def test_overlapped_selections_on_ray_equal_those_of_one_process_byte_for_byte(tmp_path: Path) -> None:
    assert "overlapped" in OVERLAPPED
    left = []
    for place, options in (("ray", ()), ("inline", ("--inline",))):
        sweep = Sweep(tmp_path / place, OVERLAPPED)
        sweep.run(*options)
        assert len(_results(sweep)) == 2
        picks = {path.relative_to(sweep.trials()): path.read_bytes() for path in sweep.trials().glob("*/selections/*")}
        left.append((_results(sweep), picks))
    assert left[0] == left[1]


STREAMED = """
name: tiny
dataset: {name: image_folder, root: ../images, image_size: 70, label_noise: 0.2}
model: {name: small_cnn, width: 4}
augmentation:
  weak: [{name: random_resized_crop, size: 16}, random_flip]
  evaluation: [{name: resize, size: 20}, {name: center_crop, size: 16}]
  strong: [{name: randaugment, num_ops: 1, magnitude: 5}]
training: {regime: random+augmented, epochs: 6, batch_size: 16, optimizer: {learning_rate: 0.05}}
selection: {fraction: 0.25, every: 2}
checkpoints: {every: 1}
resources: {loaders: 2}
sweep: {grid: {selection.strategy: [max_loss, coreset]}}
"""


@pytest.mark.slow
def test_streamed_images_on_ray_give_what_one_process_gives_whoever_is_killed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number, (split, name) in enumerate(itertools.product(("train", "test"), "abc")):
        (tmp_path / "images" / split / name).mkdir(parents=True)
        for place in range(40 if split == "train" else 10):
            pixels = rng.integers(20 * number, 20 * number + 120, (72 + place % 5, 90 - place % 7, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / split / name / f"{place}.png")
    left = []
    for place in ("ray", "inline"):
        sweep = Sweep(tmp_path / place, STREAMED)
        if place == "ray":
            process = sweep.start()
            sweep.wait_for("trials/*/checkpoints/*.ckpt")
            sweep.kill(r"^ray::(ResourceTrainable|TrialActor)")  # a trial, or one that reads for it
            process.communicate(timeout=300)
            sweep.wait_until_gone()
            sweep.run()
        else:
            sweep.run("--inline")
        assert len(_results(sweep)) == 2
        left.append(_results(sweep))
    assert left[0] == left[1]

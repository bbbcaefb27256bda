"""`medoid analyze spectrum` from end to end on a tiny sweep, and what it says where it cannot."""

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from orchestrator.cli import Refused, app

SPEC = """
name: tiny
dataset: {name: digits, train_per_class: 20}
model: {name: mlp, width: 16}
augmentation: {weak: [{name: random_crop, padding: 1}], strong: [{name: cutout, size: 3}]}
training: {regime: full+augmented, epochs: 3, batch_size: 32}
selection: {strategy: none}
checkpoints: {keep: [2]}
seeds: [0, 4]
"""
SMALL = ("--epoch", "2", "--examples", "2", "--draws", "3", "--ranges", "4")


def medoid(*arguments: str) -> None:
    app(list(arguments), standalone_mode=False)


def refused(*arguments: str) -> str:
    with pytest.raises(Refused) as refusal:
        medoid("analyze", "spectrum", *arguments)
    assert refusal.value.code == 2
    return str(refusal.value)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """For matrices this small a second thread only waits, and on a busy machine waits long."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the spec, and its sweep run."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(SPEC)
    before = Path.cwd()
    os.chdir(folder)
    try:
        medoid("run", "tiny.yaml", "--inline")
    finally:
        os.chdir(before)
    return folder


@pytest.fixture(scope="module")
def analysis(trained: Path) -> Path:
    """The folder of an analysis, made by the command in a process of its own."""
    ran = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", "analyze", "spectrum", "tiny.yaml", *SMALL],
        cwd=trained,
        env=os.environ | {"COLUMNS": "120", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    folder = trained / "runs/tiny/analysis/spectrum"
    assert f"spectrum: {folder}/index.html" in ran.stdout
    assert "noise, ε₀ = 16" in ran.stdout
    return folder


@pytest.fixture
def here(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(trained)
    return trained


def rows(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text().splitlines()))


def test_the_page_holds_everything_in_itself(analysis: Path) -> None:
    html = (analysis / "index.html").read_text()
    assert "60 × 1,210" in html  # 3 classes of 2 examples with 10 logits each; 64 * 16 + 16 + 16 * 10 + 10 parameters
    assert html.count('<img src="data:image/svg+xml;base64,') == len(list((analysis / "figures").glob("*.png")))
    for title in ("noise, ε₀ = 8", "noise, ε₀ = 16", "weak: random_crop", "strong: cutout"):
        assert f"<h3>{title}</h3>" in html
    assert "http" not in html.replace('xmlns="http', "").split("<main>")[1].split("<pre")[0]


def test_ranges_are_the_means_of_the_draws(analysis: Path) -> None:
    draws, ranges = rows(analysis / "draws.csv"), rows(analysis / "ranges.csv")
    assert len(ranges) == 4 * 4
    assert len(draws) == 4 * 2 * 3 * 4
    for one in ranges:
        of_range = [row for row in draws if (row["augmentation"], row["range"]) == (one["augmentation"], one["range"])]
        assert {row["seed"] for row in of_range} == {"0", "4"}
        for name in ("relative", "difference", "left", "left_largest", "right", "right_largest", "along"):
            values = np.array([float(row[name]) for row in of_range])
            assert float(one[name]) == pytest.approx(values.mean(), rel=1e-12)
            assert float(one[f"{name}_std"]) == pytest.approx(values.std(ddof=1), rel=1e-9)


def test_every_singular_value_has_both_sides_of_the_lemma(analysis: Path) -> None:
    for row in rows(analysis / "singular_values.csv"):
        value, p, norm = float(row["singular"]), float(row["shrunk"]), float(row["norm_mean"])
        assert p in (0, pytest.approx(1 / 3), pytest.approx(2 / 3), 1)
        least = value**2 + value * (1 - 2 * p) * norm + norm**2 / 3  # a mean of squares is no less than the mean's
        assert float(row["lemma_right"]) >= least * (1 - 1e-12)
        assert float(row["lemma_left"]) >= float(row["augmented_mean"]) ** 2 * (1 - 1e-12)


def test_again_it_gives_the_same_numbers_and_leaves_nothing_of_before(analysis: Path, here: Path) -> None:
    before = rows(analysis / "draws.csv")
    stale = analysis / "figures" / "growth-of-before.png"
    stale.write_bytes(b"")
    medoid("analyze", "spectrum", "tiny.yaml", *SMALL)
    for one, other in zip(rows(analysis / "draws.csv"), before, strict=True):
        assert one.keys() == other.keys()
        for name in one.keys() - {"augmentation", "trial"}:  # another process may round otherwise
            assert float(one[name]) == pytest.approx(float(other[name]), rel=1e-6, abs=1e-9)
    assert not stale.exists()


def test_it_leaves_the_trials_alone(analysis: Path, trained: Path) -> None:
    kinds = {path.parent.name for path in (trained / "runs/tiny/trials").rglob("*") if path.is_file()}
    assert "checkpoints" in kinds
    assert len(list((trained / "runs/tiny/trials").rglob("*.ckpt"))) == 2


def test_what_was_not_run_is_to_be_run_first(here: Path) -> None:
    message = refused("tiny.yaml", "--epoch", "2", "--set", "seeds=[0, 9]")
    assert "no checkpoint of epoch 2" in message
    assert "seed 9" in message
    assert "run it first: medoid run tiny.yaml --set 'seeds=[0, 9]'" in message


def test_an_epoch_that_was_not_kept_is_named_with_what_there_is(here: Path) -> None:
    message = refused("tiny.yaml", "--epoch", "1")
    assert "the trial is finished, and did not keep it; there is one of epoch 2 (--epoch)" in message
    assert "medoid run tiny.yaml --set 'checkpoints.keep=[1]' --set storage.path=FOLDER" in message
    message = refused("tiny.yaml", "--epoch", "1", "--set", "training.epochs=4")
    assert "checkpoints.keep = [2] does not name it" in message
    assert "run it first: medoid run tiny.yaml --set training.epochs=4 --set 'checkpoints.keep=[1]'" in message


def test_an_epoch_after_the_last_is_refused(here: Path) -> None:
    assert refused("tiny.yaml") == "medoid: --epoch = 15: training ends after epoch 3"


def test_a_damaged_checkpoint_is_named(here: Path, tmp_path: Path) -> None:
    shutil.copytree(here / "runs", tmp_path / "runs")
    file = next((tmp_path / "runs").rglob("*.ckpt"))
    file.write_bytes(file.read_bytes()[:-9])
    message = refused("tiny.yaml", "--epoch", "2", "--set", f"storage.path={tmp_path}/runs")
    assert f"{file} is damaged: its checksum does not match" in message
    assert "storage.path=FOLDER" in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--classes", "0,eleven"), "--classes: no class 'eleven'; allowed: 0, 1, 2"),
        (("--examples", "21"), "--examples = 21: class 0 has only 20 training examples"),
        (("--augmentations", "noise:-1"), "--augmentations: noise:-1: the bound"),
        (("--ranges", "61", "--examples", "2"), "--ranges: 60 singular values cannot be split into 61 ranges"),
        (("--memory", "0.001", "--examples", "20"), "--memory: a Jacobian of 1,200 rows"),
        (("--set", "resources.gpus=1", "--set", "seeds=[0]"), "no checkpoint of epoch 2"),  # another kind of device
    ],
)
def test_what_cannot_be_asked(here: Path, options: tuple[str, ...], message: str) -> None:
    assert message in refused("tiny.yaml", "--epoch", "2", *options)


def test_trials_of_different_kinds_are_not_mixed(here: Path) -> None:
    message = refused("tiny.yaml", "--epoch", "2", "--set", "sweep.grid.model.width=[16, 7]")
    assert "tiny has 2 kinds of trials" in message
    assert "keep one value of sweep.grid.model.width" in message

"""What the command line says to bad input: one clear message, exit code 2, no traceback, nothing lost."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from PIL import Image

from integration.sweeps import SPEC, heed_ctrl_c
from small_images import write_images


def medoid(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", *arguments],
        cwd=folder,
        env=os.environ | {"COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def refused(folder: Path, *arguments: str) -> str:
    """The message of a command that refuses to start."""
    ran = medoid(folder, *arguments)
    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    return ran.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text(SPEC)
    return tmp_path


@pytest.fixture
def images(folder: Path) -> Path:
    """A tiny image folder, and a spec of it."""
    write_images(folder / "pets", train=6, test=2, height=12, width=12)
    spec = SPEC.replace(
        "{name: digits, label_noise: 0.3, train_per_class: 40}", "{name: image_folder, root: pets}"
    ).replace("cnn, width: 4}", "cnn, width: 2}")
    (folder / "pets.yaml").write_text(spec)
    return folder / "pets"


def test_validate_lists_the_trials(folder: Path) -> None:
    ran = medoid(folder, "validate", "tiny.yaml", "--set", "seeds=[0, 1]")
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert lines[0] == "tiny: 8 trials"
    assert lines[2].split()[1:] == ["none", "25%", "0"]
    assert len(lines) == 10


def test_validate_tells_trials_apart(folder: Path) -> None:
    axes = "sweep.grid={training.epochs: [3, 4], model: [{name: mlp}, {name: mlp, width: 9}]}"
    lines = medoid(folder, "validate", "tiny.yaml", "--set", axes, "--set", "seeds=[7]").stdout.splitlines()
    assert lines[1].split() == ["spec", "hash", "strategy", "size", "training.epochs", "model", "seed"]
    assert lines[3].split(maxsplit=3)[3] == "3                {'name': 'mlp', 'width': 9}  7"


def test_what_has_no_effect_is_noted(folder: Path) -> None:
    steps = "training.schedule={name: milestones, milestones: [1, 30], warmup_epochs: 19}"
    ran = medoid(folder, "validate", "tiny.yaml", "--set", steps, "--set", "sweep.asha={grace_epochs: 100}")
    epochs = "since training.epochs = 12"
    assert ran.stderr.splitlines() == [
        f"note: training.schedule.milestones = [30]: the rate does not drop there, {epochs}",
        f"note: training.schedule.warmup_epochs = 19: the rate never comes to its full size, {epochs}",
        "note: sweep.asha.grace_epochs = 100: no trial is longer, so none is stopped",
    ]
    assert medoid(folder, "validate", "tiny.yaml").stderr == ""


def test_the_library_is_listed_and_printed(folder: Path) -> None:
    listed = medoid(folder, "library").stdout.splitlines()
    assert "Digits with 50 % label noise" in next(line for line in listed if line.startswith("quickstart "))
    (folder / "mine.yaml").write_text(medoid(folder, "library", "quickstart").stdout)
    assert medoid(folder, "validate", "mine.yaml").stdout == medoid(folder, "validate", "quickstart").stdout
    assert "did you mean 'quickstart'?" in refused(folder, "library", "quikstart")


def test_the_version(folder: Path) -> None:
    assert medoid(folder, "--version").stdout == f"medoid {version('medoid')}\n"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_plan_for_a_gpu_needs_one(folder: Path) -> None:
    message = refused(folder, "plan", "tiny.yaml", "--set", "resources.gpus=1")
    assert message.startswith("medoid: resources.gpus = 1: torch sees no GPU here to try a few steps on; plan on a ")


def test_a_plan_notes_what_does_not_fit_here(folder: Path) -> None:
    ran = medoid(folder, "plan", "tiny.yaml", "--set", "resources.workers=4096")
    assert ran.returncode == 0, ran.stderr
    assert "note: medoid run is refused on this machine: resources: a trial asks for workers = 4096 with" in ran.stderr


def test_validate_imports_nothing_heavy(folder: Path) -> None:
    script = (
        "import sys; sys.argv = ['medoid', 'validate', 'tiny.yaml']\n"
        "import orchestrator.cli\n"
        "try: orchestrator.cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'ray', 'mlflow', 'matplotlib', 'numba'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    ran = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_inline_imports_neither_ray_nor_mlflow_nor_plots(folder: Path) -> None:
    script = (
        "import sys; sys.argv = ['medoid', 'run', 'tiny.yaml', '--inline', '--set', 'training.epochs=1',\n"
        "    '--set', 'sweep.grid={selection.strategy: [coreset]}']\n"
        "import orchestrator.cli\n"
        "try: orchestrator.cli.main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "unwanted = {'ray', 'mlflow', 'matplotlib', 'boto3', 'jinja2', 'pandas', 'sklearn', 'pyarrow'}\n"
        "assert not unwanted & set(sys.modules), unwanted & set(sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr + ran.stdout


def test_schema_is_json(folder: Path) -> None:
    assert json.loads(medoid(folder, "schema").stdout)["title"] == "medoid spec"


def test_errors_of_a_spec_point_at_its_lines(folder: Path) -> None:
    (folder / "tiny.yaml").write_text(SPEC.replace("fraction: 0.25", "fraction: 1.25, buget: 3"))
    message = refused(folder, "run", "tiny.yaml")
    assert "tiny.yaml:9: selection.fraction = 1.25" in message
    assert "tiny.yaml:9: selection.buget" in message
    assert "did you mean 'budget'" in message


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("selection={budget: 4}", "budget = 4: below the number of classes, 10"),
        ("selection={budget: 401}", "budget = 401: should be at least 1 and at most n = 400"),
        ("dataset.train_per_class=5000", "train_per_class"),
        ("model={name: vgg11}", "model.name = 'vgg11'"),
        ("augmentation.weak=[{name: random_crop, padding: 9}]", "augmentation.weak: random_crop padding = 9"),
        ("resources.workers=3", "of which 2 fit"),
    ],
)
def test_what_only_data_or_machine_can_refute(folder: Path, override: str, expected: str) -> None:
    if override.startswith("resources") and os.cpu_count() != 2:
        pytest.skip("the expected message is that of a machine with 2 cores")
    message = refused(folder, "run", "tiny.yaml", "--set", override)
    assert expected in message
    assert not list((folder / "runs").rglob("trials/*"))


def test_workers_cannot_be_several_in_one_process(folder: Path) -> None:
    assert "resources.workers = 2" in refused(folder, "run", "tiny.yaml", "--inline", "--set", "resources.workers=2")


def test_missing_files_are_named(folder: Path, images: Path) -> None:
    assert "nosuch.yaml: no such file" in refused(folder, "run", "nosuch.yaml")
    assert "did you mean 'quickstart'" in refused(folder, "validate", "quickstrat")
    assert "/nosuch" in refused(folder, "run", "pets.yaml", "--set", "dataset.root=/nosuch")


def test_unfit_images_are_named(folder: Path, images: Path) -> None:
    broken = images / "train" / "cat" / "3.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    assert str(broken) in refused(folder, "run", "pets.yaml", "--inline")
    Image.new("RGB", (9, 12)).save(broken)
    message = refused(folder, "run", "pets.yaml", "--inline")
    assert str(broken) in message
    assert "image_size" in message
    broken.write_bytes(whole)
    assert medoid(folder, "run", "pets.yaml", "--inline", "--set", "training.epochs=1").returncode == 0


def test_empty_and_single_classes_are_refused(folder: Path, images: Path) -> None:
    for file in (images / "train" / "dog").iterdir():
        file.unlink()
    assert "dog" in refused(folder, "run", "pets.yaml", "--inline")
    (images / "train" / "dog").rmdir()
    for file in (images / "test" / "dog").iterdir():
        file.unlink()
    (images / "test" / "dog").rmdir()
    assert "class" in refused(folder, "run", "pets.yaml", "--inline")


def test_storage_that_cannot_be_written_is_named(folder: Path) -> None:
    (folder / "occupied").write_text("a file, not a folder")
    message = refused(folder, "run", "tiny.yaml", "--inline", "--set", "storage.path=occupied")
    assert str(folder / "occupied") in message
    assert "cannot be written" in message


def test_a_second_run_of_the_same_sweep_is_refused(folder: Path) -> None:
    import fcntl

    (folder / "runs/tiny").mkdir(parents=True)
    with open(folder / "runs/tiny/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("process 42 on elsewhere")
        lock.flush()
        message = refused(folder, "run", "tiny.yaml", "--inline")
    assert "is being written by process 42 on elsewhere" in message


def test_reports_and_pages_of_unknown_sweeps(folder: Path) -> None:
    (folder / "runs/known").mkdir(parents=True)
    message = refused(folder, "report", "nosuch")
    assert "no sweep 'nosuch' in runs" in message
    assert "no sweep 'nosuch' in runs" in refused(folder, "ui", "nosuch")


def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(folder: Path) -> None:
    import signal
    import time

    command = [sys.executable, "-m", "orchestrator.cli", "run", "tiny.yaml", "--inline", "--set", "training.epochs=400"]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c
    )
    deadline = time.monotonic() + 60
    while not list((folder / "runs").glob("tiny/trials/*/checkpoints/*.ckpt")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "go on with: medoid run tiny.yaml --inline --set training.epochs=400" in errors

"""A trial on two processes: the same as on one, continued as on one, and the same under Ray Train."""

import contextlib
import gc
import io
import itertools
import json
import os
import signal
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed

from selection.greedi import Partition
from selection.mapper import SerialMapper
from selection.problem import Picks, Problem
from selection.sharing import Holders, by_the_first
from servers.ray_cluster import TAG, command_line, processes
from specs import TrialSpec, trial_id
from workers.assignment import Assignment
from workers.data import load_images
from workers.group import Ddp, Group
from workers.loop import Context, DivergedError, train
from workers.overlapping import OverlappedSelectionError
from workers.records import TrialResult, checkpoint_key, trial_key
from workers.storage import LocalStorage


def trial(**sections: Any) -> TrialSpec:
    data: dict[str, Any] = {
        "dataset": {"name": "digits", "train_per_class": 20, "label_noise": 0.3},
        "model": {"name": "mlp", "width": 8},
        "augmentation": {"weak": [{"name": "random_crop", "padding": 1}], "strong": [{"name": "cutout", "size": 3}]},
        "training": {"regime": "subset", "epochs": 3, "batch_size": 13, "optimizer": {"learning_rate": 0.05}},
        "selection": {"strategy": "coreset", "fraction": 0.1},
        "checkpoints": {"keep": [3]},
        "resources": {"workers": 2},
        "seed": 4,
    }
    for name, section in sections.items():
        data[name] = {**data[name], **section}
    return TrialSpec.model_validate(data)


# What is trained in float64 and compared with one process; the last batch in brackets.
EQUAL = {
    "40 views by 13 [1]": trial(),
    "40 views by 15 [10]": trial(training={"batch_size": 15}),
    "220 views by 73 [1]": trial(training={"regime": "full+augmented", "batch_size": 73}),
    "40 views by 1 [1]": trial(training={"batch_size": 1, "epochs": 1}, checkpoints={"keep": [1]}),
    "max_loss": trial(selection={"strategy": "max_loss"}),
    "last_layer": trial(selection={"proxy": "last_layer", "every": 2}),
    "overlapped": trial(
        selection={"mode": "overlapped", "every": 2}, training={"epochs": 4}, checkpoints={"keep": [4]}
    ),
    "loss-guided, 240 views by 50 [40]": trial(
        augmentation={"strong": [{"name": "loss_guided", "candidates": 4, "kept": 2, "cutout": 3}], "copies": 2},
        training={"regime": "full+augmented", "batch_size": 50},
    ),
    "harvested, 220 views by 73 [1]": trial(
        selection={"proxy_source": "harvest", "proxy": "last_layer"},
        training={"regime": "full+augmented", "batch_size": 73},
    ),
}
CONTINUED = trial(model={"name": "small_cnn", "width": 4}, training={"batch_size": 16}, checkpoints={"every": 1})
# Of three processes a last batch of four leaves two with one view, of which batch norm after two poolings sees 1x1.
OF_THREE = {
    "mlp": trial(resources={"workers": 3}, checkpoints={"every": 1}),
    "small_cnn": trial(
        dataset={"image_size": 4},
        model={"name": "small_cnn", "width": 4},
        training={"batch_size": 36},
        checkpoints={"every": 1},
        resources={"workers": 3},
    ),
}
ALONE = trial(
    resources={"workers": 1},
    selection={"mode": "overlapped", "proxy_source": "harvest", "proxy": "last_layer"},
    training={"regime": "full+augmented", "batch_size": 32},
)
MEASURED = {"value", "gradient_error", "overlap_max_loss"}  # in float32 by whoever measured; None: not by this strategy
FAILING = trial(selection={"mode": "overlapped"})
DIVERGING = trial(training={"optimizer": {"learning_rate": 1e12}})


class FailingLater(SerialMapper):
    """Fails the second time it is asked, where it computes."""

    asked = 0

    def map_shared(
        self, problems: Sequence[Problem], partition: Partition | None, holders: Holders
    ) -> tuple[list[Picks], float]:
        self.asked += 1
        if self.asked == 2:
            by_the_first(holders, self._fail)
        return super().map_shared(problems, partition, holders)

    def _fail(self) -> None:
        raise ArithmeticError("the shard is gone")


@contextlib.contextmanager
def float64() -> Iterator[None]:
    """Networks and images are of torch's default dtype: in float64, two orders of summing agree to nine digits."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def context(spec: TrialSpec, folder: Path, **options: Any) -> Context:
    images = load_images(spec.dataset)
    options = {"mapper": SerialMapper(1), **options}
    return Context(trial_id(spec, images.fingerprint), LocalStorage(folder), images, **options)


def train_equal(folder: Path, **options: Any) -> None:
    """Train every spec of EQUAL in float64, each into a folder of its own."""
    with float64():
        for number, spec in enumerate(EQUAL.values()):
            list(train(spec, context(spec, folder / str(number), **options)))


def one_of_two(rank: int, folder: Path) -> None:
    """What each of the two processes does."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    group: Group = Ddp(torch.device("cpu"))
    train_equal(folder / "equal", group=group)

    again = whole_and_broken(CONTINUED, folder, group)
    try:
        list(train(DIVERGING, context(DIVERGING, folder / "diverging", group=group)))
        said = ""
    except DivergedError as error:
        said = str(error)
    try:
        list(train(FAILING, context(FAILING, folder / "failing", group=group, mapper=FailingLater(1))))
        failed = ""
    except OverlappedSelectionError as error:
        failed = str(error)
    report = {"again": again, "diverged": said, "failed": failed}
    (folder / f"rank {rank}.json").write_text(json.dumps(report))
    leave()


def whole_and_broken(spec: TrialSpec, folder: Path, group: Group) -> list[int]:
    """Train a spec in one go, and once more broken off after two epochs; the epochs that it was gone on with."""
    list(train(spec, context(spec, folder / "whole", group=group)))
    broken = train(spec, context(spec, folder / "broken", group=group))
    list(itertools.islice(broken, 2))
    broken.close()
    distributed.barrier()
    return [epoch.record.epoch for epoch in train(spec, context(spec, folder / "broken", group=group))]


def leave() -> None:
    gc.collect()  # a model under DDP is a cycle: while it lives, so do its group's threads, which abort at exit
    distributed.destroy_process_group()


def one_of_three(rank: int, folder: Path) -> None:
    """What each of three processes does."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=3)
    group: Group = Ddp(torch.device("cpu"))
    for name, spec in OF_THREE.items():
        assert whole_and_broken(spec, folder / name, group) == [3]
    leave()


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left."""
    folder = tmp_path_factory.mktemp("together")
    torch.multiprocessing.spawn(one_of_two, (folder,), nprocs=2)
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process left of the same."""
    folder = tmp_path_factory.mktemp("alone")
    train_equal(folder)
    return folder


def identity(spec: TrialSpec) -> str:
    return trial_id(spec, load_images(spec.dataset).fingerprint)


def result_of(spec: TrialSpec, folder: Path) -> TrialResult:
    key = trial_key(identity(spec), "result.json")
    return TrialResult.model_validate_json(LocalStorage(folder).read(key))


def parameters_of(spec: TrialSpec, folder: Path) -> dict[str, torch.Tensor]:
    data = LocalStorage(folder).read(checkpoint_key(identity(spec), spec.training.epochs))
    state = torch.load(io.BytesIO(data[data.index(b"PK") :]), weights_only=True)
    return dict(state["model"])


def selections_of(spec: TrialSpec, folder: Path) -> dict[str, dict[str, np.ndarray]]:
    storage = LocalStorage(folder)
    keys = storage.list(trial_key(identity(spec), "selections"))
    assert keys
    return {key: dict(np.load(io.BytesIO(storage.read(key)))) for key in keys}


@pytest.mark.parametrize("name", EQUAL)
class TestTwoAreOne:
    @pytest.fixture
    def folders(self, name: str, together: Path, alone: Path) -> tuple[Path, Path]:
        number = str(list(EQUAL).index(name))
        return together / "equal" / number, alone / number

    def test_parameters(self, name: str, folders: tuple[Path, Path]) -> None:
        two, one = (parameters_of(EQUAL[name], folder) for folder in folders)
        assert two.keys() == one.keys()
        for key, value in one.items():
            assert value.dtype == torch.float64
            np.testing.assert_allclose(two[key], value, rtol=0, atol=1e-9, err_msg=key)

    def test_metrics(self, name: str, folders: tuple[Path, Path]) -> None:
        two, one = (result_of(EQUAL[name], folder) for folder in folders)
        for a, b in zip(two.epochs, one.epochs, strict=True):
            assert a.model_dump() == pytest.approx(b.model_dump(), rel=1e-6)
        for c, d in zip(two.selections, one.selections, strict=True):
            assert c.model_dump(exclude=MEASURED) == d.model_dump(exclude=MEASURED)
            for field in MEASURED:
                of_two, of_one = getattr(c, field), getattr(d, field)
                assert of_two == (None if of_one is None else pytest.approx(of_one, rel=1e-5))

    def test_selections(self, name: str, folders: tuple[Path, Path]) -> None:
        two, one = (selections_of(EQUAL[name], folder) for folder in folders)
        assert two.keys() == one.keys()
        for key in one:
            np.testing.assert_array_equal(two[key]["ids"], one[key]["ids"])
            np.testing.assert_array_equal(two[key]["weights"], one[key]["weights"])


def test_two_continue_as_if_never_interrupted(together: Path) -> None:
    reports = [json.loads((together / f"rank {rank}.json").read_text()) for rank in (0, 1)]
    assert [report["again"] for report in reports] == [[3], [3]]
    whole, broken = (result_of(CONTINUED, together / name) for name in ("whole", "broken"))
    assert whole.to_bytes() == broken.to_bytes()
    a, b = (parameters_of(CONTINUED, together / name) for name in ("whole", "broken"))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_three_continue_as_if_never_interrupted(tmp_path: Path) -> None:
    """Of two a sum is the same in either order."""
    torch.multiprocessing.spawn(one_of_three, (tmp_path,), nprocs=3)
    for name, spec in OF_THREE.items():
        whole, broken = (result_of(spec, tmp_path / name / way) for way in ("whole", "broken"))
        assert whole.to_bytes() == broken.to_bytes(), name
        a, b = (parameters_of(spec, tmp_path / name / way) for way in ("whole", "broken"))
        assert all(torch.equal(a[key], b[key]) for key in a), name


def test_both_find_the_divergence(together: Path) -> None:
    """At the same step, even where only one of them computed it: or the other would wait for ever."""
    said = [json.loads((together / f"rank {rank}.json").read_text())["diverged"] for rank in (0, 1)]
    assert said[0] == said[1]
    assert "in epoch 1, step" in said[0]


def test_both_hear_of_a_selection_that_failed_beside_training(together: Path) -> None:
    """Though only rank 0 asked for it."""
    said = [json.loads((together / f"rank {rank}.json").read_text())["failed"] for rank in (0, 1)]
    assert said == ["the selection asked for after epoch 1 failed: ArithmeticError: the shard is gone"] * 2


def drive_ray(_: int, folder: Path) -> None:
    """In a process of its own, since Ray reads its settings where it is imported."""
    from orchestrator.cluster import connect, disconnect

    tag = os.environ[TAG] = uuid.uuid4().hex
    connect(None)
    from workers.distributed import WorkerError, run_distributed

    report: dict[str, Any] = {"epochs": [], "notes": []}
    try:
        assignment = Assignment(identity(CONTINUED), CONTINUED, LocalStorage(folder / "ray"))
        for epoch in run_distributed(assignment, report["notes"].append):
            if epoch is not None:
                report["epochs"].append(epoch.record.epoch)
        list(run_distributed(Assignment(identity(ALONE), ALONE, LocalStorage(folder / "ray")), report["notes"].append))
        gone = LocalStorage(folder / "gone")
        broken = run_distributed(Assignment(identity(CONTINUED), CONTINUED, gone), print, in_step=True)
        assert next(broken) is not None
        time.sleep(3)  # many epochs' worth
        report["ahead"] = [key for key in gone.list("trials") if "00002" in key or "result" in key]
        controllers = [pid for pid in processes(tag) if "TrainController" in command_line(pid)]
        for pid in controllers:
            os.kill(pid, signal.SIGKILL)
        try:
            list(broken)
        except WorkerError as error:
            report["without a controller"] = str(error)
        try:
            list(run_distributed(Assignment(identity(DIVERGING), DIVERGING, LocalStorage(folder / "ray")), print))
        except WorkerError as error:
            report["failure"] = str(error)
    finally:
        disconnect()
    (folder / "ray.json").write_text(json.dumps(report))


@pytest.mark.slow
def test_ray_train_runs_the_same_loop(together: Path, tmp_path: Path) -> None:
    torch.multiprocessing.spawn(drive_ray, (tmp_path,), nprocs=1)
    report = json.loads((tmp_path / "ray.json").read_text())
    assert report["epochs"] == [1, 2, 3]
    assert report["notes"] == []
    assert result_of(CONTINUED, tmp_path / "ray").to_bytes() == result_of(CONTINUED, together / "whole").to_bytes()
    list(train(ALONE, context(ALONE, tmp_path / "alone")))
    assert result_of(ALONE, tmp_path / "ray").to_bytes() == result_of(ALONE, tmp_path / "alone").to_bytes()
    assert report["ahead"] == []
    assert report["without a controller"].startswith("Ray Train ended with ActorDiedError: ")
    assert report["failure"].startswith("rank ")
    assert "DivergedError: the loss is nan in epoch 1, step" in report["failure"]

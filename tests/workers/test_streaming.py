"""Streamed images: the same training as from memory, whatever number of processes reads them."""

import json
import multiprocessing
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from published_layouts import WNIDS, write_imagenet
from small_trials import context, gone_on_after_any_kill, left_behind, run, trial
from torchvision.transforms import v2

from orchestrator.inline import run_inline
from orchestrator.plan import estimate
from orchestrator.preparation import Library, prepare
from orchestrator.report.writing import write_report
from orchestrator.reporting import StoredImages
from orchestrator.watching import Watchers
from specs import SpecError, SweepSpec, TrialSpec
from specs.dataset import Dataset
from workers.data import DataError, ImageData, StreamedSet, load_images
from workers.data.images import describe
from workers.data.indexing import make_index, streamed_data
from workers.data.layouts import find_files
from workers.images import at_once
from workers.loop import train
from workers.sources import Source, open_source
from workers.storage import LocalStorage

SIZE = 24
CROPS: dict[str, Any] = {
    "weak": [{"name": "random_crop", "size": SIZE, "padding": 2}, "random_flip"],
    "evaluation": [{"name": "center_crop", "size": SIZE}],
    "strong": [{"name": "cutout", "size": 6}],
    "copies": 2,
}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ImageData]:
    """Lossless images of one size, in memory and streamed, under one fingerprint."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for split, size in (("train", 12), ("test", 5)):
        for name in "abc":
            (root / split / name).mkdir(parents=True)
            for number in range(size):
                level = 40 * "abc".index(name)
                pixels = rng.integers(level, level + 150, (72, 80, 3), np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    files = find_files(Dataset(name="image_folder", root=str(root)), root)
    memory = describe(files.decode(None), "here")
    streamed = streamed_data(files, None, make_index(files, None))
    assert memory.image_shape == streamed.image_shape == (72, 80, 3)
    np.testing.assert_array_equal(memory.mean, streamed.mean)
    np.testing.assert_array_equal(memory.std, streamed.std)
    return {"memory": memory, "streamed": replace(streamed, fingerprint=memory.fingerprint)}


def small(loaders: int | None = 1, **sections: Any) -> TrialSpec:
    data: dict[str, Any] = {
        "dataset": {"name": "image_folder", "root": "images", "train_per_class": None, "label_noise": 0.2},
        "model": {"name": "small_cnn", "width": 4},
        "augmentation": CROPS,
        "training": {"regime": "full+augmented", "epochs": 3, "batch_size": 10},
        "selection": {"fraction": 0.3, "every": 2, "proxy": "last_layer"},
        "checkpoints": {"every": 1, "keep": [3]},
        "resources": {"loaders": loaders},
    }
    for name, section in sections.items():
        data[name] = {**data[name], **section}
    return trial(**data)


def outcome(spec: TrialSpec, folder: Path, images: ImageData) -> dict[str, bytes]:
    """All that a trial leaves behind, but for how it was read."""
    storage = LocalStorage(folder)
    run(spec, storage, images)
    left = left_behind(storage)
    for key in left:
        if key.endswith("result.json"):
            result = json.loads(left[key])
            del result["spec"]["resources"]
            left[key] = json.dumps(result).encode()
    return left


class TestTheSameTraining:
    @pytest.mark.parametrize(
        "sections",
        [
            {},
            {
                "training": {"regime": "subset"},
                "model": {"name": "resnet8", "width": None},
                "augmentation": {"weak": CROPS["evaluation"]},
            },
            {
                "selection": {"proxy_source": "harvest", "mode": "overlapped"},
                "augmentation": {"weak": [{"name": "center_crop", "size": SIZE}, {"name": "random_crop"}]},
            },
        ],
    )
    def test_as_from_memory(self, sections: dict[str, Any], tmp_path: Path, both: dict[str, ImageData]) -> None:
        found = [outcome(small(**sections), tmp_path / name, images) for name, images in both.items()]
        assert found[0] == found[1]
        assert any(key.endswith("00003.ckpt") for key in found[0])

    @pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")
    def test_whatever_the_number_of_loaders(self, tmp_path: Path, both: dict[str, ImageData]) -> None:
        images = both["streamed"]
        found = [outcome(small(number), tmp_path / str(number), images) for number in (0, 1, 3, None)]
        assert found[0] == found[1] == found[2] == found[3]

    def test_whatever_kill_it_goes_on_after(self, tmp_path: Path, both: dict[str, ImageData]) -> None:
        spec = small(checkpoints={"every": 1, "keep": [1]})
        for _ in gone_on_after_any_kill(spec, tmp_path, both["streamed"]):
            pass

    def test_again_from_the_same_seed(self, tmp_path: Path, both: dict[str, ImageData]) -> None:
        """A source read at many speeds, in one process and another, is still one source."""
        resized = {**CROPS, "weak": [{"name": "random_resized_crop", "size": SIZE}, "random_flip"]}
        found = [
            outcome(small(2, augmentation=resized), tmp_path / name, both["streamed"]) for name in ("first", "second")
        ]
        assert found[0] == found[1]


class TestBatches:
    """What the source gives, image by image."""

    def sources(self, both: dict[str, ImageData], loaders: int = 2, **augmentation: Any) -> Iterator[Source]:
        spec = small(loaders, augmentation={**CROPS, **augmentation})
        for images in both.values():
            with closing(open_source(spec, images, torch.device("cpu"))) as source:
                yield source

    def weak(self, source: Source, ids: list[int], copies: list[int], size: int = 4, epoch: int = 3) -> torch.Tensor:
        views = np.array(ids), np.array(copies)
        parts = [tuple(part[start : start + size] for part in views) for start in range(0, len(ids), size)]
        return torch.cat([batch.clone() for batch in source.weak(parts, seed=5, epoch=epoch)])  # type: ignore[arg-type]

    def test_a_view_is_a_function_of_its_id_and_copy(self, both: dict[str, ImageData]) -> None:
        ids, copies = [3, 3, 3, 30, 8, 1, 0], [0, 1, 2, 0, 0, 1, 0]
        for source in self.sources(both, weak=[{"name": "random_resized_crop", "size": SIZE}, "random_flip"]):
            whole = self.weak(source, ids, copies, size=7)
            assert torch.equal(self.weak(source, ids, copies, size=2), whole)
            assert torch.equal(self.weak(source, ids[::-1], copies[::-1]), whole.flip(0))
            assert not torch.equal(self.weak(source, ids, copies, epoch=4), whole)
            assert len({image.numpy().tobytes() for image in whole}) == len(ids)

    def test_resized_crops_are_those_of_memory_up_to_rounding(self, both: dict[str, ImageData]) -> None:
        weak = [{"name": "random_resized_crop", "size": SIZE}, "random_flip"]
        found = [self.weak(source, list(range(36)), [0] * 36).int() for source in self.sources(both, weak=weak)]
        assert (found[0] - found[1]).abs().max() <= 2
        assert found[0].shape == (36, 3, SIZE, SIZE)

    def test_layout(self, both: dict[str, ImageData]) -> None:
        for source in self.sources(both):
            for batch in (
                next(source.weak([(np.arange(3), np.zeros(3, np.int64))], seed=0, epoch=0)),
                next(source.test.batches([np.arange(3)])),
            ):
                assert batch.dtype == torch.uint8
                assert batch.is_contiguous(memory_format=torch.channels_last)

    def test_a_sequence_may_be_left_unfinished(self, both: dict[str, ImageData]) -> None:
        parts = [np.array([row]) for row in range(9)]
        for source in self.sources(both):
            first = [next(source.test.batches(parts)).clone() for _ in range(3)]
            assert torch.equal(first[0], first[1])
            assert torch.equal(first[0], torch.cat(list(source.test.batches(parts)))[:1])

    def test_reading_draws_nothing_from_the_global_generator(self, both: dict[str, ImageData]) -> None:
        """Dropout draws from it: it must see the same numbers, however the images come."""
        before = torch.get_rng_state()
        for source in self.sources(both):
            self.weak(source, [0, 1], [0, 0])
        assert torch.equal(torch.get_rng_state(), before)

    def test_few_of_large_images_are_taken_together(self) -> None:
        assert at_once(32, 32) == at_once(64, 64) == at_once(128, 128) == 512
        assert at_once(224, 224) == 167
        assert at_once(100_000, 100_000) == 1


class TestPublishedSetUp:
    """Resized crops of images of many sizes, and the middle of the resized image for testing."""

    AUGMENTATION: dict[str, Any] = {  # noqa: RUF012
        "weak": [{"name": "random_resized_crop", "size": SIZE}, "random_flip"],
        "evaluation": [{"name": "resize", "size": 40}, {"name": "center_crop", "size": SIZE}],
        "strong": [{"name": "autoaugment", "policy": "imagenet"}],
    }

    @pytest.fixture
    def imagenet(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("MEDOID_CACHE", str(tmp_path / "cache"))
        return write_imagenet(tmp_path / "imagenet", per_class=6)

    def sweep(self, root: Path, tmp_path: Path, **sections: Any) -> SweepSpec:
        data: dict[str, Any] = {
            "name": "streamed",
            "dataset": {"name": "imagenet", "root": str(root), "label_noise": 0.1},
            "model": {"name": "resnet8"},
            "augmentation": self.AUGMENTATION,
            "training": {"regime": "random+augmented", "epochs": 2, "batch_size": 8},
            "selection": {"fraction": 0.5},
            "resources": {"loaders": 2},
            "storage": {"path": str(tmp_path / "runs")},
        }
        for name, section in sections.items():
            data[name] = {**data.get(name, {}), **section}
        return SweepSpec.model_validate(data)

    def test_runs_from_files_to_report(self, imagenet: Path, tmp_path: Path) -> None:
        library = Library()
        prepared = prepare(self.sweep(imagenet, tmp_path), library, notify=print)
        (cell,) = estimate(prepared, library).values()
        assert cell.views == 24
        assert cell.seconds > 0
        run_inline(prepared, Watchers())
        (planned,) = prepare(prepared.sweep, library, notify=print).trials
        assert planned.state == "finished"
        files = write_report(prepared.storage, prepared.record, StoredImages(library))
        assert any("images" in name for name in files.figures)

    def test_test_images_are_the_middle_of_the_resized_image(self, imagenet: Path, tmp_path: Path) -> None:
        (planned,) = prepare(self.sweep(imagenet, tmp_path), Library(), notify=print).trials
        images = load_images(planned.spec.dataset)
        assert isinstance(images.test, StreamedSet)
        with closing(open_source(planned.spec, images, torch.device("cpu"))) as source:
            (batch,) = source.test.batches([np.arange(len(images.test))])
        for row, found in enumerate(batch):
            picture = v2.functional.resize(Image.fromarray(images.test.read(row)), [40])
            expected = np.asarray(v2.functional.center_crop(picture, [SIZE]))
            np.testing.assert_array_equal(found.permute(1, 2, 0).numpy(), expected)

    @pytest.mark.parametrize(
        ("sections", "match"),
        [
            (
                {"augmentation": {"weak": ["random_flip"]}},
                r"augmentation\.weak: images that are streamed differ in size",
            ),
            (
                {"augmentation": {"evaluation": []}},
                r"augmentation\.evaluation: images that are streamed differ in size",
            ),
            (
                {"augmentation": {"weak": [{"name": "random_crop", "size": 90, "padding": 0}]}},
                r"augmentation\.weak: random_crop size = 90: larger than 90x75 images .* allowed: 1 to 75",
            ),
            (
                {
                    "augmentation": {
                        "evaluation": [{"name": "resize", "size": 20}, {"name": "center_crop", "size": SIZE}]
                    }
                },
                r"augmentation\.evaluation: center_crop size = 24: larger than 20x20 images",
            ),
            (
                {"augmentation": {"evaluation": [{"name": "center_crop", "size": 30}]}},
                r"augmentation\.evaluation: the weak operations make training images of 24x24",
            ),
            (
                {"augmentation": {"strong": [{"name": "resize", "size": 30}]}},
                r"augmentation\.strong: resize of images that have one size already: should stand before the crop",
            ),
            (
                {"augmentation": {"strong": [{"name": "loss_guided"}]}},
                r"augmentation\.strong: loss_guided composes images in memory; these are streamed",
            ),
        ],
    )
    def test_operations_that_do_not_fit(
        self, sections: dict[str, Any], match: str, imagenet: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(SpecError, match=match):
            prepare(self.sweep(imagenet, tmp_path, **sections), Library(), notify=print)

    def test_images_in_memory_are_not_resized(self, tmp_path: Path) -> None:
        sections = {
            "dataset": {"name": "digits", "root": None},
            "augmentation": {"weak": [], "evaluation": [{"name": "resize", "size": 4}]},
        }
        with pytest.raises(
            SpecError, match=r"augmentation\.evaluation: resize .* should be dataset\.image_size instead"
        ):
            prepare(self.sweep(tmp_path, tmp_path, **sections), Library(), notify=print)


class TestProcesses:
    @pytest.fixture
    def damaged(self, tmp_path: Path) -> ImageData:
        """One training image of class 1 was whole when it was listed."""
        root = write_imagenet(tmp_path / "images")
        files = find_files(Dataset(name="imagenet", root=str(root)), root)
        images = streamed_data(files, None, make_index(files, None))
        path = root / "train" / sorted(WNIDS)[1] / f"{sorted(WNIDS)[1]}_2.JPEG"
        path.write_bytes(path.read_bytes()[:400])
        return images

    @pytest.mark.parametrize("loaders", [0, 2])
    def test_a_file_that_cannot_be_decoded_is_named(self, loaders: int, damaged: ImageData, tmp_path: Path) -> None:
        spec = small(loaders, selection={"strategy": "none"}, augmentation={"copies": 1})
        with pytest.raises(DataError, match=r"n02012849_2\.JPEG: unreadable image"):
            run(spec, LocalStorage(tmp_path / "runs"), damaged)
        assert not multiprocessing.active_children()

    def test_end_with_the_trial(self, tmp_path: Path, both: dict[str, ImageData]) -> None:
        epochs = train(small(2), context(small(2), LocalStorage(tmp_path), both["streamed"]))
        next(epochs)
        assert len(multiprocessing.active_children()) == 2
        epochs.close()  # type: ignore[attr-defined]  # as where ASHA stops a trial
        assert not multiprocessing.active_children()
        run(small(2), LocalStorage(tmp_path), both["streamed"])
        assert not multiprocessing.active_children()

    def test_as_many_as_cores_unless_said_otherwise(self, tmp_path: Path, both: dict[str, ImageData]) -> None:
        spec = small(None, resources={"cpus": 2})
        epochs = train(spec, context(spec, LocalStorage(tmp_path), both["streamed"]))
        next(epochs)
        assert len(multiprocessing.active_children()) == 2
        epochs.close()  # type: ignore[attr-defined]

"""Data sets of files, read from small copies of their real layouts."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from published_layouts import (
    CALTECH,
    WNIDS,
    colours,
    write_caltech256,
    write_image,
    write_imagenet,
    write_tiny_imagenet,
)

from specs.dataset import Dataset
from workers.data import DataError, ImageData, ImageSet, StreamedSet, corrupt, load_images
from workers.data.indexing import SAMPLE

WRITERS = {"caltech256": write_caltech256, "tiny_imagenet": write_tiny_imagenet, "imagenet": write_imagenet}


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each set; not to be changed."""
    return {name: write(tmp_path_factory.mktemp(name)) for name, write in WRITERS.items()}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def names(part: ImageSet | StreamedSet) -> list[str]:
    assert isinstance(part, StreamedSet)
    return [path.decode() for path in part.paths]


class TestCaltech256:
    def test_the_first_sixty_by_name_are_trained_on(self, written: dict[str, Path], cache: Path) -> None:
        data = load_images(Dataset(name="caltech256", root=str(written["caltech256"])), cache)
        assert data.classes == ("ak47", "dog", "spider", "clutter")
        assert np.bincount(data.train.labels).tolist() == [60] * 4
        assert np.bincount(data.test.labels).tolist() == [2, 3, 2, 3]
        expected = [f"{name}/{name[:3]}_{number:04d}.jpg" for name in CALTECH for number in range(1, 61)]
        assert names(data.train) == expected
        assert names(data.test)[:3] == ["001.ak47/001_0061.jpg", "001.ak47/001_0062.jpg", "056.dog/056_0061.jpg"]

    def test_clutter_is_a_class_unless_it_is_left_out(self, written: dict[str, Path], cache: Path) -> None:
        root = str(written["caltech256"])
        clean = load_images(Dataset(name="caltech256", root=root, clutter=False), cache)
        assert clean.classes == ("ak47", "dog", "spider")
        assert len(clean.train) == 180
        everything = load_images(Dataset(name="caltech256", root=root), cache)
        assert everything.fingerprint != clean.fingerprint

    def test_torchvisions_place_will_do(self, written: dict[str, Path], tmp_path: Path, cache: Path) -> None:
        folder = tmp_path / "root" / "caltech256"
        shutil.copytree(written["caltech256"], folder)
        found = [load_images(Dataset(name="caltech256", root=str(at)), cache) for at in (folder, folder.parent)]
        assert found[0].fingerprint == found[1].fingerprint

    def test_small_ones_are_decoded(self, written: dict[str, Path], cache: Path) -> None:
        data = load_images(Dataset(name="caltech256", root=str(written["caltech256"]), image_size=16), cache)
        assert isinstance(data.train, ImageSet)
        assert data.train.images.shape == (240, 16, 16, 3)

    def test_another_layout(self, tmp_path: Path, cache: Path) -> None:
        dataset = Dataset(name="caltech256", root=str(tmp_path))
        with pytest.raises(
            DataError, match=f"dataset.root: {tmp_path} holds neither 256_ObjectCategories nor caltech256/"
        ):
            load_images(dataset, cache)
        (tmp_path / "256_ObjectCategories" / "dogs").mkdir(parents=True)
        with pytest.raises(DataError, match=r"256_ObjectCategories: 'dogs' is not a class folder, such as 001\.ak47"):
            load_images(dataset, cache)

    def test_a_class_without_images_to_test(self, tmp_path: Path, cache: Path) -> None:
        root = write_caltech256(tmp_path / "root", tested=1)
        (root / "256_ObjectCategories" / "198.spider" / "198_0005.jpg").unlink()
        with pytest.raises(DataError, match=r"198\.spider: 60 \.jpg images; more than 60 are needed"):
            load_images(Dataset(name="caltech256", root=str(root)), cache)


class TestTinyImageNet:
    def test_rows_and_labels(self, written: dict[str, Path], cache: Path) -> None:
        data = load_images(Dataset(name="tiny_imagenet", root=str(written["tiny_imagenet"])), cache)
        assert data.classes == ("goldfish", "crane (n02012849)", "Egyptian cat", "crane (n03126707)")
        assert isinstance(data.train, ImageSet)
        assert isinstance(data.test, ImageSet)
        assert data.image_shape == (64, 64, 3)
        assert data.train.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
        assert data.test.labels.tolist() == [0, 1, 2, 2, 3]
        places = [WNIDS.index(wnid) for wnid in sorted(WNIDS)]
        self.assert_alike(data.train.images[0], colours(10 * places[0], 64, 64))
        self.assert_alike(data.train.images[5], colours(10 * places[1] + 2, 64, 64))
        for image, number in zip(data.test.images, (101, 103, 100, 104, 102), strict=True):
            self.assert_alike(image, colours(number, 64, 64))

    def assert_alike(self, found: np.ndarray, written: np.ndarray) -> None:
        assert np.abs(found.astype(int) - written).mean() < 4  # JPEG is lossy

    def test_the_folder_itself_will_do(self, written: dict[str, Path], cache: Path) -> None:
        outer = written["tiny_imagenet"]
        inner = outer / "tiny-imagenet-200"
        found = [load_images(Dataset(name="tiny_imagenet", root=str(at)), cache) for at in (outer, inner)]
        assert found[0].fingerprint == found[1].fingerprint

    def test_enlarged_ones_are_streamed(self, written: dict[str, Path], cache: Path) -> None:
        dataset = Dataset(name="tiny_imagenet", root=str(written["tiny_imagenet"]), image_size=224)
        data = load_images(dataset, cache)
        assert isinstance(data.train, StreamedSet)
        assert data.train.read(0).shape == (224, 224, 3)

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            (lambda inner: (inner / "wnids.txt").unlink(), "holds neither wnids.txt nor tiny-imagenet-200/wnids.txt"),
            (lambda inner: shutil.rmtree(inner / "val" / "images"), "val/images: cannot be listed"),
            (
                lambda inner: (inner / "val" / "val_annotations.txt").unlink(),
                r"val_annotations\.txt: cannot be read: No",
            ),
            (
                lambda inner: (inner / "words.txt").write_text("n02012849\tcrane\n"),
                "words.txt: says nothing of 'n01443537'",
            ),
            (lambda inner: shutil.rmtree(inner / "train" / WNIDS[1]), f"train/{WNIDS[1]}/images: cannot be listed"),
            (
                lambda inner: (inner / "val" / "images" / "val_3.JPEG").unlink(),
                r"val_annotations\.txt, line 4: no image 'val_3\.JPEG' in .*val/images",
            ),
            (
                lambda inner: write_image(inner / "val" / "images" / "val_9.JPEG", 0, 64, 64),
                r"val_annotations\.txt: says nothing of 'val_9\.JPEG'",
            ),
            (
                lambda inner: (inner / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn00000000\t0\t0\t1\t1\n"),
                "line 1: no class 'n00000000'",
            ),
            (
                lambda inner: (inner / "val" / "val_annotations.txt").write_text("val_0.JPEG n02124075\n"),
                "line 1: no image 'val_0.JPEG n02124075'",
            ),
            (lambda inner: (inner / "wnids.txt").write_text(WNIDS[0]), "one-class data"),
            (
                lambda inner: (inner / "wnids.txt").write_text("\n".join([*WNIDS, "../../other"])),
                r"wnids\.txt: '\.\./\.\./other': should be names of folders",
            ),
        ],
    )
    def test_another_layout(self, change: object, match: str, tmp_path: Path, cache: Path) -> None:
        inner = write_tiny_imagenet(tmp_path / "root") / "tiny-imagenet-200"
        change(inner)  # type: ignore[operator]
        with pytest.raises(DataError, match=match):
            load_images(Dataset(name="tiny_imagenet", root=str(inner.parent)), cache)


class TestImageNet:
    def test_label_k_is_the_kth_wnid(self, written: dict[str, Path], cache: Path) -> None:
        data = load_images(Dataset(name="imagenet", root=str(written["imagenet"])), cache)
        assert data.classes == tuple(sorted(WNIDS))
        assert names(data.train)[:2] == ["train/n01443537/n01443537_0.JPEG", "train/n01443537/n01443537_1.JPEG"]
        assert (len(data.train), len(data.test)) == (12, 8)

    def test_every_image_is_read_as_rgb(self, written: dict[str, Path], cache: Path) -> None:
        data = load_images(Dataset(name="imagenet", root=str(written["imagenet"]), image_size=66), cache)
        assert isinstance(data.train, StreamedSet)
        for row in range(len(data.train)):
            image = data.train.read(row)
            assert min(image.shape[:2]) == 66
            assert image.shape[2] == 3

    def test_a_flat_val_is_refused(self, tmp_path: Path, cache: Path) -> None:
        root = write_imagenet(tmp_path / "root")
        write_image(root / "val" / "ILSVRC2012_val_00000001.JPEG", 0, 80, 80)
        with pytest.raises(DataError, match=r"val: 'ILSVRC2012_val_00000001\.JPEG' is not a class folder"):
            load_images(Dataset(name="imagenet", root=str(root)), cache)

    def test_without_val(self, tmp_path: Path, cache: Path) -> None:
        root = write_imagenet(tmp_path / "root")
        (root / "val").rename(root / "test")
        with pytest.raises(DataError, match=f"{root}: no folder val/ beside train"):
            load_images(Dataset(name="imagenet", root=str(root)), cache)


@pytest.mark.parametrize("name", WRITERS)
def test_noise_and_imbalance_act_on_every_set(name: str, written: dict[str, Path], cache: Path) -> None:
    dataset = Dataset(
        name=name,
        root=str(written[name]),
        label_noise=0.5,
        imbalance_factor=3.0,  # type: ignore[arg-type]
    )
    data = load_images(dataset, cache)
    examples = corrupt(dataset, data, seed=0)
    counts = np.bincount(examples.clean_labels)
    assert counts[0] == 3 * counts[-1]
    assert (examples.labels != examples.clean_labels).sum() == round(0.5 * len(examples))


class TestStreamedData:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return write_imagenet(tmp_path / "root")

    def load(self, root: Path, cache: Path, image_size: int | None = None) -> ImageData:
        return load_images(Dataset(name="imagenet", root=str(root), image_size=image_size), cache)

    def test_the_shorter_side_is_scaled(self, root: Path, cache: Path) -> None:
        data = self.load(root, cache, 70)
        assert isinstance(data.train, StreamedSet)
        original = Image.open(root / names(data.train)[1])
        assert original.size == (103, 84)
        found = data.train.read(1)
        assert found.shape == (70, int(70 * 103 / 84), 3)
        assert data.image_shape == (70, 70, 3)
        expected = original.resize((found.shape[1], 70), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(found, np.asarray(expected))

    def test_without_a_size_they_stay_as_they_are(self, root: Path, cache: Path) -> None:
        data = self.load(root, cache)
        assert isinstance(data.train, StreamedSet)
        np.testing.assert_array_equal(data.train.read(1), np.asarray(Image.open(root / names(data.train)[1])))
        assert data.image_shape == (75, 90, 3), "the least of each side"

    def test_moved_touched_or_renamed_files_are_the_same_data(self, root: Path, cache: Path) -> None:
        before = self.load(root, cache).fingerprint
        moved = root.rename(root.parent / "moved")
        first = moved / "train" / WNIDS[0] / f"{WNIDS[0]}_0.JPEG"
        first.touch()
        first.rename(first.with_name("a.JPEG"))
        assert self.load(moved, cache).fingerprint == before

    @pytest.mark.parametrize("change", ["content", "label", "class", "order", "split"])
    def test_whatever_changes_a_result_changes_the_fingerprint(self, change: str, root: Path, cache: Path) -> None:
        before = self.load(root, cache).fingerprint
        folders = {wnid: root / "train" / wnid for wnid in WNIDS}
        one = folders[WNIDS[1]] / f"{WNIDS[1]}_2.JPEG"
        if change == "content":
            write_image(one, 999, 80, 80)
        elif change == "label":
            one.rename(folders[WNIDS[0]] / one.name)
        elif change == "class":
            for split in ("train", "val"):
                (root / split / WNIDS[1]).rename(root / split / "n01443538")
        elif change == "order":
            one.rename(one.with_name("a.JPEG"))
        else:
            one.rename(root / "val" / WNIDS[1] / "z.JPEG")
        assert self.load(root, cache).fingerprint != before

    def test_statistics_are_those_of_the_training_pixels(self, root: Path, cache: Path) -> None:
        data = self.load(root, cache, 66)
        assert isinstance(data.train, StreamedSet)
        assert len(data.train) <= SAMPLE
        pixels = np.concatenate([data.train.read(row).reshape(-1, 3) for row in range(len(data.train))]) / 255
        np.testing.assert_allclose(data.mean, pixels.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(data.std, pixels.std(axis=0), rtol=1e-6)

    def test_statistics_of_a_sample_do_not_depend_on_the_place(
        self, root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("workers.data.indexing.SAMPLE", 5)
        here = self.load(root, cache)
        there = self.load(Path(shutil.copytree(root, root.parent / "copy")), cache)
        np.testing.assert_array_equal(here.mean, there.mean)
        monkeypatch.setattr("workers.data.indexing.SAMPLE", 12)
        assert not np.array_equal(self.load(root, cache.parent / "other").mean, here.mean)

    def test_files_are_read_once(self, root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = self.load(root, cache)
        monkeypatch.setattr("workers.data.loading.make_index", None)
        second = self.load(root, cache)
        assert first.fingerprint == second.fingerprint
        np.testing.assert_array_equal(first.mean, second.mean)

    @pytest.mark.parametrize("damage", ["empty", "text", "sixteen bits"])
    def test_what_is_no_image_is_refused_at_once(self, damage: str, root: Path, cache: Path) -> None:
        path = root / "val" / WNIDS[2] / "ILSVRC2012_val_21.JPEG"
        if damage == "sixteen bits":
            Image.fromarray(np.full((80, 80), 40_000, np.uint16)).save(path, "PNG")
        else:
            path.write_bytes(b"" if damage == "empty" else b"no image")
        with pytest.raises(DataError, match=f"{path}: (unreadable image|pixels of Pillow's mode I;16)"):
            self.load(root, cache)
        assert not list(cache.glob("*/*")), "nothing may stay in the cache"

    def test_large_images_of_any_folder_are_streamed(self, tmp_path: Path, cache: Path) -> None:
        for number, path in enumerate(f"{split}/{name}/0.png" for split in ("train", "test") for name in "ab"):
            write_image(tmp_path / "large" / path, number, 65, 20)
            write_image(tmp_path / "small" / path, number, 64, 20)
        for name, size, streamed in (("large", None, True), ("small", None, False), ("small", 65, True)):
            data = load_images(Dataset(name="image_folder", root=str(tmp_path / name), image_size=size), cache)
            assert isinstance(data.train, StreamedSet) == streamed

    def test_pictures_to_look_at(self, root: Path, cache: Path) -> None:
        data = self.load(root, cache)
        assert data.train.shown(np.array([4, 1, 1])).shape == (3, 96, 96, 3)

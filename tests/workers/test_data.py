"""Reading images: the shipped digits, image folders, and the cache."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from specs.dataset import Dataset
from workers.data import DataError, ImageData, ImageSet, load_images
from workers.data.files import ImageFiles
from workers.data.images import Decoded, describe
from workers.data.layouts import find_files

CLASSES = ("cat", "dog")
PER_CLASS = {"train": 3, "test": 2}


def picture(number: int, shape: tuple[int, ...] = (6, 5, 3)) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, shape, np.uint8)


def write_folder(root: Path, shape: tuple[int, ...] = (6, 5, 3), start: int = 0) -> Path:
    """root/train and root/test with lossless images numbered from `start`, in listing order."""
    number = start
    for split, size in PER_CLASS.items():
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for place in range(size):
                Image.fromarray(picture(number, shape)).save(root / split / name / f"{place}.png")
                number += 1
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "images")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def folder(root: Path, image_size: int | None = None) -> Dataset:
    return Dataset(name="image_folder", root=str(root), image_size=image_size)


def entries(cache: Path) -> list[Path]:
    return sorted(path for place in cache.iterdir() if place.is_dir() for path in place.iterdir())


class TestDigits:
    def test_the_file_is_scikit_learns(self) -> None:
        theirs = load_digits()
        data = load_images(Dataset(name="digits"))
        ours = {(image.tobytes(), label) for part in (data.train, data.test) for image, label in pairs(part)}
        scaled = np.floor(theirs.images * 255 / 16 + 0.5).astype(np.uint8)
        assert len(data.train) + len(data.test) == len(scaled) == 1797
        assert ours == {(image.tobytes(), label) for image, label in zip(scaled, theirs.target, strict=True)}

    def test_a_fifth_of_each_class_is_test(self) -> None:
        data = load_images(Dataset(name="digits"))
        counts = np.bincount(load_digits().target)
        assert np.bincount(data.test.labels).tolist() == [round(0.2 * n) for n in counts]
        assert data.image_shape == (8, 8, 1)
        assert data.classes == tuple("0123456789")

    def test_the_split_is_fixed(self) -> None:
        """A changed split would change every published number: raise SCIENCE_VERSION with it."""
        assert load_images(Dataset(name="digits")).fingerprint == "55b2dc7e2b1a7c7d"

    def test_statistics_are_those_of_the_training_pixels(self) -> None:
        data = load_images(Dataset(name="digits"))
        pixels = data.train.images / 255
        np.testing.assert_allclose(data.mean, [pixels.mean()], rtol=1e-6)
        np.testing.assert_allclose(data.std, [pixels.std()], rtol=1e-6)
        assert data.mean.dtype == data.std.dtype == np.float32

    def test_resized(self) -> None:
        data = load_images(Dataset(name="digits", image_size=16))
        assert data.image_shape == (16, 16, 1)
        assert data.fingerprint != load_images(Dataset(name="digits")).fingerprint

    def test_needs_neither_torch_nor_ray(self) -> None:
        code = (
            "import sys; from specs.dataset import Dataset; from workers.data import load_images;"
            "load_images(Dataset(name='digits')); print({'torch', 'ray', 'sklearn'} & set(sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "set()"


def pairs(part: ImageSet) -> list[tuple[np.ndarray, int]]:
    return list(zip(part.images, part.labels.tolist(), strict=True))


class TestImageFolder:
    def test_rows_follow_sorted_classes_and_names(self, root: Path, cache: Path) -> None:
        data = load_images(folder(root), cache)
        assert data.classes == CLASSES
        assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
        assert data.test.labels.tolist() == [0, 0, 1, 1]
        assert data.train.labels.dtype == np.int64
        np.testing.assert_array_equal(data.train.images, [picture(n) for n in range(6)])
        np.testing.assert_array_equal(data.test.images, [picture(n) for n in range(6, 10)])

    def test_more_files_than_a_thread_takes_at_once(self, root: Path) -> None:
        number = 300
        for name in range(number):
            Image.fromarray(picture(1000 + name)).save(root / "train" / "cat" / f"x{name:03d}.png")
        images = find_files(folder(root), root).decode(None).train.images
        np.testing.assert_array_equal(images[3 : 3 + number], [picture(1000 + name) for name in range(number)])

    def test_only_grey_files_give_one_channel(self, tmp_path: Path, cache: Path) -> None:
        root = write_folder(tmp_path / "grey", (6, 5))
        data = load_images(folder(root), cache)
        assert data.image_shape == (6, 5, 1)
        np.testing.assert_array_equal(data.train.images[0, :, :, 0], picture(0, (6, 5)))

    def test_one_colour_file_makes_all_rgb(self, tmp_path: Path, cache: Path) -> None:
        root = write_folder(tmp_path / "mixed", (6, 5))
        Image.fromarray(picture(1)).save(root / "test" / "dog" / "1.png")
        data = load_images(folder(root), cache)
        assert data.image_shape == (6, 5, 3)
        np.testing.assert_array_equal(data.train.images[0], np.repeat(picture(0, (6, 5))[..., None], 3, axis=2))

    def test_image_size_resizes_bilinearly_and_allows_mixed_sizes(self, root: Path, cache: Path) -> None:
        Image.fromarray(picture(77, (9, 12, 3))).save(root / "train" / "cat" / "1.png")
        data = load_images(folder(root, 4), cache)
        assert data.image_shape == (4, 4, 3)
        for row, original in ((0, picture(0)), (1, picture(77, (9, 12, 3)))):
            expected = Image.fromarray(original).resize((4, 4), Image.Resampling.BILINEAR)
            np.testing.assert_array_equal(data.train.images[row], np.asarray(expected))

    def test_dot_files_are_left_out(self, root: Path, cache: Path) -> None:
        (root / "train" / "cat" / ".DS_Store").write_text("x")
        (root / "train" / ".thumbnails").mkdir()
        assert len(load_images(folder(root), cache).train) == 6


class TestRefused:
    """Each error names what is wrong, and where."""

    def refused(self, root: Path, cache: Path, *named: str) -> None:
        with pytest.raises(DataError) as caught:
            load_images(folder(root), cache)
        for text in named:
            assert text in str(caught.value)
        assert not list(cache.glob("*/*")), "nothing may stay in the cache"

    def test_missing_root(self, tmp_path: Path, cache: Path) -> None:
        self.refused(tmp_path / "nowhere", cache, "dataset.root", "nowhere")

    def test_no_root(self, cache: Path) -> None:
        with pytest.raises(DataError, match=r"dataset\.root: dataset image_folder"):
            load_images(Dataset(name="image_folder"), cache)

    @pytest.mark.parametrize("split", ["train", "test"])
    def test_missing_split(self, root: Path, cache: Path, split: str) -> None:
        (root / split).rename(root / "other")
        self.refused(root, cache, str(root), f"no folder {split}/")

    @pytest.mark.parametrize(("here", "there"), [("train", "test"), ("test", "train")])
    def test_class_on_one_side_only(self, root: Path, cache: Path, here: str, there: str) -> None:
        (root / here / "fox").mkdir()
        self.refused(root, cache, "'fox'", str(root / here), str(root / there))

    def test_empty_class(self, root: Path, cache: Path) -> None:
        for split in PER_CLASS:
            (root / split / "fox").mkdir()
        self.refused(root, cache, str(root / "train" / "fox"), "empty class")

    def test_one_class(self, root: Path, cache: Path) -> None:
        for split in PER_CLASS:
            (root / split / "dog").rename(root / f"{split} dog")
        self.refused(root, cache, "one-class data", "'cat'")

    @pytest.mark.parametrize("damage", [b"", b"no image", "half"])
    def test_unreadable_image(self, root: Path, cache: Path, damage: bytes | str) -> None:
        path = root / "train" / "dog" / "1.png"
        path.write_bytes(path.read_bytes()[:60] if isinstance(damage, str) else damage)
        self.refused(root, cache, str(path), "unreadable image")

    def test_sixteen_bit_image(self, root: Path, cache: Path) -> None:
        path = root / "train" / "cat" / "1.png"
        Image.fromarray(np.full((6, 5), 40_000, np.uint16)).save(path)
        self.refused(root, cache, str(path), "I;16")

    def test_differing_sizes(self, root: Path, cache: Path) -> None:
        path = root / "test" / "cat" / "1.png"
        Image.fromarray(picture(0, (7, 9, 3))).save(path)
        first = root / "train" / "cat" / "0.png"
        self.refused(root, cache, str(path), "9x7", str(first), "5x6", "dataset.image_size")

    def test_more_images_than_memory_holds(self, root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("workers.data.files.memory_here", lambda: 10 * 6 * 5 * 3 - 1)
        self.refused(root, cache, str(root), "10 images of 5x6 pixels", "dataset.image_size")

    @pytest.mark.parametrize("name", ["notes.txt", "Thumbs.db"])
    def test_file_that_is_no_image(self, root: Path, cache: Path, name: str) -> None:
        (root / "train" / "cat" / name).write_text("x")
        self.refused(root, cache, name, str(root / "train" / "cat"))

    def test_folder_among_images_and_file_among_folders(self, root: Path, cache: Path) -> None:
        (root / "train" / "cat" / "more.png").mkdir()
        self.refused(root, cache, "'more.png' is not an image file")
        (root / "train" / "cat" / "more.png").rmdir()
        (root / "train" / "list.csv").write_text("x")
        self.refused(root, cache, "'list.csv' is not a class folder")

    def test_dangling_link(self, root: Path, cache: Path) -> None:
        (root / "train" / "cat" / "9.png").symlink_to(root / "gone.png")
        self.refused(root, cache, "'9.png'")


class TestDescribe:
    def refused(self, match: str, **changes: object) -> None:
        images, labels = np.zeros((4, 2, 2, 1), np.uint8), np.array([0, 1, 0, 1])
        parts = {"train": ImageSet(images, labels), "test": ImageSet(images, labels), "classes": ("a", "b")}
        with pytest.raises(DataError, match=match):
            describe(Decoded(**{**parts, **changes}), "here")  # type: ignore[arg-type]

    @pytest.mark.parametrize("label", [-1, 2])
    def test_label_out_of_range(self, label: int) -> None:
        wrong = ImageSet(np.zeros((3, 2, 2, 1), np.uint8), np.array([0, 1, label]))
        self.refused(f"here: label {label} of test example 2 is out of range; allowed: 0 to 1", test=wrong)

    def test_shapes_counts_and_classes(self) -> None:
        images = np.zeros((2, 2, 2, 1), np.uint8)
        self.refused("test images", test=ImageSet(np.zeros((2, 2, 3, 1), np.uint8), np.array([0, 1])))
        self.refused("2 images but 3 labels", train=ImageSet(images, np.array([0, 1, 1])))
        self.refused("test is empty", test=ImageSet(images[:0], np.array([], np.int64)))
        self.refused("empty class.*'b'", train=ImageSet(images, np.array([0, 0])))
        self.refused("one-class data", classes=("a",))

    def test_a_constant_channel_normalises_to_zeros(self) -> None:
        images = np.stack([picture(0, (4, 3, 3)), np.full((4, 3, 3), 51, np.uint8)], axis=-1)
        part = ImageSet(images, np.array([0, 1, 0, 1]))
        data = describe(Decoded(part, part, ("a", "b")), "here")
        assert data.std[1] == 1
        assert data.mean[1] == np.float32(0.2)


class TestCache:
    def test_the_second_load_decodes_nothing(self, root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = load_images(folder(root), cache)
        monkeypatch.setattr(ImageFiles, "decode", None)
        second = load_images(folder(root), cache)
        assert same(first, second)
        assert first.fingerprint == second.fingerprint

    def test_images_are_mapped_and_read_only(self, root: Path, cache: Path) -> None:
        images = load_images(folder(root), cache).train.images
        assert type(images) is np.ndarray
        base = images
        while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
            base = base.base  # type: ignore[assignment]
        assert isinstance(base, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            images[0] = 0

    def test_moving_the_folder_keeps_the_fingerprint(self, root: Path, cache: Path) -> None:
        before = load_images(folder(root), cache)
        moved = root.rename(root.parent / "moved")
        assert load_images(folder(moved), cache).fingerprint == before.fingerprint

    @pytest.mark.parametrize("change", ["pixel", "class name", "label"])
    def test_changed_content_changes_the_fingerprint(self, root: Path, cache: Path, change: str) -> None:
        before = load_images(folder(root), cache)
        if change == "pixel":
            path = root / "test" / "dog" / "1.png"
            pixels = np.array(Image.open(path))
            pixels[0, 0, 0] ^= 1
            Image.fromarray(pixels).save(path)
        elif change == "class name":
            for split in PER_CLASS:
                (root / split / "dog").rename(root / split / "hound")
        else:
            (root / "train" / "dog" / "0.png").rename(root / "train" / "cat" / "3.png")
        assert load_images(folder(root), cache).fingerprint != before.fingerprint

    def test_a_changed_folder_replaces_its_entry(self, root: Path, cache: Path) -> None:
        old = load_images(folder(root), cache)
        (before,) = entries(cache)
        Image.fromarray(picture(99)).save(root / "train" / "cat" / "0.png")
        new = load_images(folder(root), cache)
        (after,) = entries(cache)
        assert before != after
        np.testing.assert_array_equal(new.train.images[0], picture(99))
        np.testing.assert_array_equal(old.train.images[0], picture(0))  # still mapped

    def test_two_image_sizes_live_side_by_side(self, root: Path, cache: Path) -> None:
        shapes = [load_images(folder(root, size), cache).image_shape for size in (None, 4, None, 8)]
        assert shapes == [(6, 5, 3), (4, 4, 3), (6, 5, 3), (8, 8, 3)]
        assert len(entries(cache)) == 3

    @pytest.mark.parametrize("damage", ["truncated", "fewer rows", "missing", "meta", "no meta", "header"])
    def test_a_damaged_entry_is_made_anew(
        self, root: Path, cache: Path, damage: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        good = load_images(folder(root), cache)
        images, fingerprint = np.array(good.train.images), good.fingerprint
        (entry,) = entries(cache)
        file = entry / "train_images.npy"
        if damage == "truncated":
            os.truncate(file, file.stat().st_size - 1)
        elif damage == "fewer rows":
            np.save(file, images[:1])
        elif damage == "missing":
            file.unlink()
        elif damage == "meta":
            (entry / "meta.json").write_text('{"bytes": {')
        elif damage == "no meta":
            (entry / "meta.json").unlink()
        else:
            file.write_bytes(bytes(file.stat().st_size))
        again = load_images(folder(root), cache)
        np.testing.assert_array_equal(again.train.images, images)
        assert again.fingerprint == fingerprint
        assert "damaged" in caplog.text

    def test_what_a_killed_writer_left_is_removed(self, root: Path, cache: Path) -> None:
        load_images(folder(root), cache)
        (entry,) = entries(cache)
        entry.rename(entry.parent / ".left")
        load_images(folder(root), cache)
        assert entries(cache) == [entry]

    def test_only_one_decodes(self, root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        decodings, decode, together = [], ImageFiles.decode, threading.Barrier(4)

        def counted(self: ImageFiles, image_size: int | None) -> Decoded:
            decodings.append(threading.get_ident())
            return decode(self, image_size)

        def load() -> None:
            together.wait()
            load_images(folder(root), cache)

        monkeypatch.setattr(ImageFiles, "decode", counted)
        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(decodings) == 1

    def test_a_cache_that_cannot_be_written(self, root: Path, tmp_path: Path) -> None:
        blocked = tmp_path / "file"
        blocked.write_text("")
        with pytest.raises(DataError, match=r"file/cache cannot be written.*MEDOID_CACHE"):
            load_images(folder(root), blocked / "cache")

    def test_the_environment_names_the_cache(self, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MEDOID_CACHE", str(tmp_path / "named"))
        load_images(folder(root))
        assert len(entries(tmp_path / "named")) == 1


def same(a: ImageData, b: ImageData) -> bool:
    arrays = [
        (data.train.images, data.train.labels, data.test.images, data.test.labels, data.mean, data.std)
        for data in (a, b)
    ]
    return a.classes == b.classes and all(np.array_equal(*both) for both in zip(*arrays, strict=True))

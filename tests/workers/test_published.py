"""MNIST, CIFAR-10 and SVHN, read from small copies of the files that torchvision reads."""

import hashlib
import pickle
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from scipy.io import savemat
from torchvision import datasets

from specs.dataset import Dataset
from workers.data import DataError, load_images

CLASSES = 10
SIZES = {"train": 25, "test": 20}


def labels(split: str) -> np.ndarray:
    return np.arange(SIZES[split]) % CLASSES


def pixels(split: str, *shape: int) -> np.ndarray:
    return np.random.default_rng(len(split)).integers(0, 256, (SIZES[split], *shape), np.uint8)


def write_idx(path: Path, array: np.ndarray) -> None:
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes())


def write_mnist(root: Path) -> None:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split, part in (("train", "train"), ("test", "t10k")):
        write_idx(raw / f"{part}-images-idx3-ubyte", pixels(split, 28, 28))
        write_idx(raw / f"{part}-labels-idx1-ubyte", labels(split))


def write_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real layout; torchvision's list of checksums is set to those of these files."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)

    def dump(name: str, content: object) -> str:
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        return hashlib.md5(data).hexdigest()

    def batch(images: np.ndarray, of: np.ndarray) -> dict[str, object]:
        return {"data": images.transpose(0, 3, 1, 2).reshape(len(images), -1), "labels": of.tolist()}

    train, test = pixels("train", 32, 32, 3), pixels("test", 32, 32, 3)
    train_list = [
        [f"data_batch_{n + 1}", dump(f"data_batch_{n + 1}", batch(train[rows], labels("train")[rows]))]
        for n, rows in enumerate(np.split(np.arange(SIZES["train"]), 5))
    ]
    test_list = [["test_batch", dump("test_batch", batch(test, labels("test")))]]
    checksum = dump("batches.meta", {"label_names": [f"thing {n}" for n in range(CLASSES)]})
    monkeypatch.setattr(datasets.CIFAR10, "train_list", train_list)
    monkeypatch.setattr(datasets.CIFAR10, "test_list", test_list)
    monkeypatch.setattr(datasets.CIFAR10, "meta", {**datasets.CIFAR10.meta, "md5": checksum})


def write_svhn(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root.mkdir(parents=True)
    checksums = {}
    for split in SIZES:
        path = root / f"{split}_32x32.mat"
        of = np.where(labels(split) == 0, 10, labels(split))  # SVHN writes the digit 0 as 10
        savemat(path, {"X": pixels(split, 32, 32, 3).transpose(1, 2, 3, 0), "y": of[:, None].astype(np.uint8)})
        checksums[split] = hashlib.md5(path.read_bytes()).hexdigest()
    listed = {split: [*datasets.SVHN.split_list[split][:2], checksum] for split, checksum in checksums.items()}
    monkeypatch.setattr(datasets.SVHN, "split_list", listed)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds all three."""
    root = tmp_path / "root"
    write_svhn(root, monkeypatch)
    write_cifar10(root, monkeypatch)
    write_mnist(root)
    return root


@pytest.mark.parametrize(
    ("name", "shape", "first_class"),
    [("mnist", (28, 28), "0"), ("cifar10", (32, 32, 3), "thing 0"), ("svhn", (32, 32, 3), "0")],
)
def test_rows_are_the_files_in_order(
    root: Path, tmp_path: Path, name: str, shape: tuple[int, ...], first_class: str
) -> None:
    spec = Dataset(name=name, root=str(root))
    for _ in ("decoded", "from the cache"):
        data = load_images(spec, tmp_path / "cache")
        assert data.classes[0] == first_class
        assert len(data.classes) == CLASSES
        for split, part in (("train", data.train), ("test", data.test)):
            np.testing.assert_array_equal(part.images, pixels(split, *shape).reshape(-1, *data.image_shape))
            np.testing.assert_array_equal(part.labels, labels(split))
            assert part.labels.dtype == np.int64


def test_image_size(root: Path, tmp_path: Path) -> None:
    data = load_images(Dataset(name="svhn", root=str(root), image_size=8), tmp_path / "cache")
    assert data.image_shape == (8, 8, 3)
    assert len(data.test) == SIZES["test"]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mnist", "MNIST/raw/t10k-labels-idx1-ubyte"),
        ("cifar10", "cifar-10-batches-py/data_batch_3"),
        ("svhn", "test_32x32.mat"),
    ],
)
def test_missing_file(root: Path, tmp_path: Path, name: str, file: str) -> None:
    (root / file).unlink()
    with pytest.raises(DataError, match=f"root does not hold {name}: looked for {file}; dataset.download: true"):
        load_images(Dataset(name=name, root=str(root)), tmp_path / "cache")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mnist", "MNIST/raw/train-images-idx3-ubyte"),
        ("cifar10", "cifar-10-batches-py/test_batch"),
        ("svhn", "train_32x32.mat"),
    ],
)
def test_damaged_file(root: Path, tmp_path: Path, name: str, file: str) -> None:
    content = (root / file).read_bytes()
    (root / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=f"{name} in {root}: cannot be read"):
        load_images(Dataset(name=name, root=str(root)), tmp_path / "cache")


def test_label_out_of_range(root: Path, tmp_path: Path) -> None:
    wrong = labels("train")
    wrong[7] = 12
    write_idx(root / "MNIST" / "raw" / "train-labels-idx1-ubyte", wrong)
    with pytest.raises(DataError, match="label 12 of train example 7 is out of range; allowed: 0 to 9"):
        load_images(Dataset(name="mnist", root=str(root)), tmp_path / "cache")


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address it is served at."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def serve_svhn(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = {
        split: [f"{address}/{file}", file, checksum] for split, (_, file, checksum) in datasets.SVHN.split_list.items()
    }
    monkeypatch.setattr(datasets.SVHN, "split_list", listed)


def test_download_fetches_what_is_missing(
    root: Path, tmp_path: Path, mirror: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = mirror
    (root / "train_32x32.mat").rename(folder / "train_32x32.mat")
    serve_svhn(address, monkeypatch)
    data = load_images(Dataset(name="svhn", root=str(root), download=True), tmp_path / "cache")
    np.testing.assert_array_equal(data.train.images, pixels("train", 32, 32, 3))


def test_failed_download(root: Path, tmp_path: Path, mirror: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "train_32x32.mat").unlink()
    serve_svhn(mirror[1], monkeypatch)
    with pytest.raises(DataError, match=f"svhn in {root}: cannot be downloaded and read: .*404"):
        load_images(Dataset(name="svhn", root=str(root), download=True), tmp_path / "cache")

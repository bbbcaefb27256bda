"""From the `dataset` section of a spec to its images."""

from contextlib import nullcontext
from pathlib import Path

from specs.dataset import Dataset
from workers.data.cache import DataCache, cache_folder
from workers.data.digits import read_digits
from workers.data.folder import ImageFolder
from workers.data.images import DataError, ImageData, describe
from workers.data.source import Source


def load_images(dataset: Dataset, cache: Path | None = None) -> ImageData:
    """Training and test images of a data set, before any corruption.

    The first process of a node decodes the files into `cache` ($MEDOID_CACHE, else ~/.cache/medoid) while others
    wait; afterwards loading costs one listing of the files, and the pages of the images are shared. `digits` are
    small enough to be read each time.

    Raises DataError, naming the file or folder, for data that is missing, unreadable or not fit to be learned.
    """
    if dataset.name == "digits":
        return describe(read_digits().resized(dataset.image_size), "digits")
    if dataset.root is None:
        raise DataError(f"dataset.root: dataset {dataset.name} needs the folder that holds it")
    root = Path(dataset.root).expanduser().resolve()
    store = DataCache(cache or cache_folder(), dataset.name, root, dataset.image_size)
    source = _find(dataset, root, store)
    found = store.read(source)
    if found is not None:
        return found
    with store.lock():
        found = store.read(source)  # another process may have made it meanwhile
        if found is None:
            store.write(source, describe(source.decode(), f"{dataset.name} in {root}"))
            found = store.read(source)
    if found is None:
        raise DataError(f"the cache {store.folder} loses what is written to it; set MEDOID_CACHE to another folder")
    return found


def _find(dataset: Dataset, root: Path, store: DataCache) -> Source:
    if dataset.name == "image_folder":
        return ImageFolder.scan(root, dataset.image_size)
    from workers.data.published import PublishedSet  # imports torch, which the other data sets do without

    with store.lock() if dataset.download else nullcontext():  # only one process may download
        return PublishedSet.find(dataset.name, root, download=dataset.download, image_size=dataset.image_size)

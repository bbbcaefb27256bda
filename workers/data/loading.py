"""From the `dataset` section of a spec to its images."""

import logging
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from specs.dataset import FILES, Dataset
from workers.data.cache import DataCache, cache_folder, decoded_images, stream_index
from workers.data.digits import read_digits
from workers.data.fetching import local_root
from workers.data.files import ImageFiles
from workers.data.images import ImageData, describe
from workers.data.indexing import make_index, streamed_data
from workers.data.layouts import find_files
from workers.data.pictures import DataError
from workers.data.source import Source

_log = logging.getLogger(__name__)


def load_images(
    dataset: Dataset,
    cache: Path | None = None,
    notify: Callable[[str], None] = _log.info,
    *,
    reached: bool = False,
) -> ImageData:
    """Training and test images of a data set, before any corruption.

    The first process of a node decodes the files into `cache` ($MEDOID_CACHE, else ~/.cache/medoid), or reads them once
    where they are to be streamed, while others wait; afterwards loading costs one listing of the files, and the pages
    of the images are shared. What lies in S3 or in an archive is brought to `cache` first, in the same way; `notify` is
    told of the progress. `digits` are small enough to be read each time. A server that was `reached` before, when the
    sweep was prepared, is waited for as long as storage is, another for seconds: its address may be wrong.

    Raises DataError, naming the file or folder, for data that is missing, unreadable or not fit to be learned.
    """
    if dataset.name == "digits":
        return describe(read_digits().resized(dataset.image_size), "digits")
    if dataset.root is None:
        raise DataError(f"dataset.root: dataset {dataset.name} needs the folder that holds it")
    root = local_root(dataset, cache or cache_folder(), notify, reached)
    store = DataCache(cache or cache_folder(), dataset.name, root)
    source = _find(dataset, root, store)
    size, variant = dataset.image_size, "" if dataset.clutter else "no-clutter-"
    if isinstance(source, ImageFiles) and source.streamed(size):
        index = store.get(source.stamps, stream_index(size, variant), lambda: make_index(source, size))
        return streamed_data(source, size, index)
    origin = f"{dataset.name} in {root}"
    return store.get(source.stamps, decoded_images(size, variant), lambda: describe(source.decode(size), origin))


def _find(dataset: Dataset, root: Path, store: DataCache) -> Source:
    if dataset.name in FILES:
        return find_files(dataset, root)
    from workers.data.published import PublishedSet  # imports torch, which the other data sets do without

    with store.lock() if dataset.download else nullcontext():  # only one process may download
        return PublishedSet.find(dataset.name, root, download=dataset.download)

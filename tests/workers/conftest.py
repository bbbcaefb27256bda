"""The data that small trials learn from."""

import pytest

from specs.dataset import Dataset
from workers.data import ImageData, load_images


@pytest.fixture(scope="session")
def images() -> ImageData:
    return load_images(Dataset(name="digits"))

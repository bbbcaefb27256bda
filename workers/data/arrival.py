"""Images on their way: read, and fetched first where they are elsewhere, while somebody says how far they are."""

import threading

from specs.dataset import Dataset
from workers.data.images import ImageData
from workers.data.loading import load_images


class Arrival:
    """Loads a data set in a thread of its own, as `load_images` does for one that was reached before."""

    def __init__(self, dataset: Dataset):
        self._dataset = dataset
        self._images: ImageData | None = None
        self._error: BaseException | None = None
        self._news: list[str] = []
        # a daemon: a process that is told to end does not wait for a download
        self._thread = threading.Thread(target=self._load, name="arrival", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> ImageData | None:
        """The images, if they are there within so many seconds. Raises what loading them raised, such as DataError."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            return None
        if self._error is not None:
            raise self._error
        return self._images

    def news(self) -> list[str]:
        """How far fetching is, unless that was said before: one line at most."""
        latest, self._news = self._news, []
        return latest

    def _load(self) -> None:
        try:
            self._images = load_images(self._dataset, notify=self._tell, reached=True)
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self._error = error

    def _tell(self, text: str) -> None:
        self._news = [text]

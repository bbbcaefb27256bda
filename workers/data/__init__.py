"""Images to learn from: reading, sharing between processes, streaming, and corruption on purpose."""

from workers.data.corruption import TrainingSet, corrupt
from workers.data.images import ImageData, ImageSet, StreamedSet
from workers.data.loading import load_images
from workers.data.pictures import DataError

__all__ = ["DataError", "ImageData", "ImageSet", "StreamedSet", "TrainingSet", "corrupt", "load_images"]

"""Images to learn from: reading, sharing between processes, and corruption on purpose."""

from workers.data.corruption import TrainingSet, corrupt
from workers.data.images import DataError, ImageData, ImageSet
from workers.data.loading import load_images

__all__ = ["DataError", "ImageData", "ImageSet", "TrainingSet", "corrupt", "load_images"]

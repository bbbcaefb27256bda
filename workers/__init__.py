"""Training workers: data, corruption, augmentation, models, the epoch loop, checkpoints, results."""

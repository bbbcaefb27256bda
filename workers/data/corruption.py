"""Seeded corruption of a training set: fewer examples a class, a long tail, wrong labels."""

from dataclasses import dataclass

import numpy as np

from selection.randomness import draw_integers, draw_words
from specs.dataset import Dataset
from workers.data.images import ImageData, Labels, smallest_draws
from workers.data.pictures import DataError

# Draw numbers: each purpose has draws of its own. The split of digits uses 0.
_KEEP, _TAIL, _NOISY, _NOISE = 1, 2, 3, 4


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """The examples to learn from: `ids` int64 (n,), rows of ImageData.train, ascending.

    `labels`: int64 (n,), what training and selection see. `clean_labels`: int64 (n,), for analysis only.
    """

    ids: Labels
    labels: Labels
    clean_labels: Labels

    def __len__(self) -> int:
        return len(self.ids)


def corrupt(dataset: Dataset, data: ImageData, seed: int) -> TrainingSet:
    """Apply train_per_class, then imbalance_factor, then label_noise, as the spec's `dataset` section says.

    Class c of C keeps round(n_c * factor^(-c/(C-1))) examples, at least one (the exponential long tail of Cui et
    al., 2019, from each class's own size); exactly round(p*n) labels are replaced, uniformly by the other classes.
    All draws are functions of (seed, example id). Raises DataError for a class with fewer examples than
    train_per_class, and for one that noise leaves empty.
    """
    clean = np.asarray(data.train.labels)
    ids = np.arange(len(clean), dtype=np.int64)
    if dataset.train_per_class is not None:
        ids = _first_per_class(ids, clean, dataset.train_per_class, data.classes, seed)
    if dataset.imbalance_factor > 1:
        ids = _long_tail(ids, clean, dataset.imbalance_factor, len(data.classes), seed)
    labels = _noisy(ids, clean[ids], dataset.label_noise, data.classes, seed)
    return TrainingSet(ids, labels, clean[ids])


def _first_per_class(ids: Labels, clean: Labels, size: int, classes: tuple[str, ...], seed: int) -> Labels:
    counts = np.bincount(clean[ids], minlength=len(classes))
    if counts.min() < size:
        few = int(counts.argmin())
        raise DataError(
            f"dataset.train_per_class = {size}: class {classes[few]!r} has only {counts[few]} training examples; "
            f"allowed: at most {counts[few]}"
        )
    return _subset(ids, clean, [size] * len(classes), seed, _KEEP)


def _long_tail(ids: Labels, clean: Labels, factor: float, classes: int, seed: int) -> Labels:
    counts = np.bincount(clean[ids], minlength=classes)
    sizes = [max(1, round(int(n) * factor ** (-c / (classes - 1)))) for c, n in enumerate(counts)]
    return _subset(ids, clean, sizes, seed, _TAIL)


def _subset(ids: Labels, clean: Labels, sizes: list[int], seed: int, purpose: int) -> Labels:
    words = draw_words(seed, "corruption", purpose, ids)
    of_class = [clean[ids] == label for label in range(len(sizes))]
    kept = [smallest_draws(words[mask], ids[mask], size) for mask, size in zip(of_class, sizes, strict=True)]
    return np.sort(np.concatenate(kept))


def _noisy(ids: Labels, clean: Labels, share: float, classes: tuple[str, ...], seed: int) -> Labels:
    words = draw_words(seed, "corruption", _NOISY, ids)
    rows = smallest_draws(words, np.arange(len(ids), dtype=np.int64), round(share * len(ids)))
    other = draw_integers(seed, "corruption", len(classes) - 1, _NOISE, ids[rows])
    labels = clean.copy()
    labels[rows] = other + (other >= clean[rows])  # skips the clean class
    empty = np.flatnonzero(np.bincount(labels, minlength=len(classes)) == 0)
    if len(empty):
        raise DataError(
            f"dataset.label_noise = {share}: leaves no training example of class {classes[empty[0]]!r}; "
            "use less noise, or keep more examples"
        )
    return labels

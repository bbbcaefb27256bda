"""Which examples an analysis looks at: a seeded subsample of a few classes."""

from collections.abc import Sequence

import numpy as np

from orchestrator.errors import UserError
from selection.randomness import draw_words
from specs.errors import nearest
from workers.data import TrainingSet
from workers.data.images import Labels, smallest_draws

_FIRST = 3  # classes looked at where none are named, as in the paper's Figure 1
_DRAW = 41  # apart from the draws that selections make from the same stream


def find_classes(asked: Sequence[str], names: Sequence[str]) -> tuple[int, ...]:
    """Labels of the classes asked for, by name or by number; the first three where none are.

    A name goes before a number: among the digits `7` is the class named 7. Raises UserError for what is neither, and
    for a class asked for twice.
    """
    if not asked:
        return tuple(range(min(_FIRST, len(names))))
    found: list[int] = []
    for text in asked:
        if text in names:
            label = list(names).index(text)
        elif text.isdecimal() and int(text) < len(names):
            label = int(text)
        else:
            listed = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
            raise UserError(
                f"--classes: no class {text!r}{nearest(text, names)}; allowed: {listed}, or 0 to {len(names) - 1}"
            )
        if label in found:
            raise UserError(f"--classes: {names[label]} is named twice")
        found.append(label)
    return tuple(found)


def subsample(examples: TrainingSet, classes: Sequence[int], names: Sequence[str], per_class: int, seed: int) -> Labels:
    """Ids of `per_class` training examples of each class, ascending; drawn by (seed, id) alone.

    Classes are those of the clean labels: J does not depend on labels, and wrong ones would mix other classes in. With
    more examples a class, the fewer are among them. Raises UserError for a class that has not so many.
    """
    chosen = []
    for label in classes:
        members = examples.ids[examples.clean_labels == label]
        if len(members) < per_class:
            raise UserError(f"--examples = {per_class}: class {names[label]} has only {len(members)} training examples")
        words = draw_words(seed, "selection", _DRAW, members)
        chosen.append(smallest_draws(words, members, per_class))
    return np.sort(np.concatenate(chosen))

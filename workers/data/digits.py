"""The 1,797 handwritten digits of scikit-learn, shipped with medoid (`digits.npz`).

Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, 1998), 8x8 pixels, 0..16 rescaled to 0..255.
"""

from pathlib import Path

import numpy as np

from selection.randomness import draw_words
from workers.data.images import Decoded, ImageSet, smallest_draws

_FILE = Path(__file__).with_name("digits.npz")
_TEST_SHARE = 0.2
_SPLIT_SEED, _SPLIT_DRAW = 1797, 0  # the draw numbers of workers.data.corruption start at 1


def read_digits() -> Decoded:
    """Training and test set: images uint8 (n, 8, 8, 1). The split is fixed, 20 % of each class to test.

    It is drawn, not cut: the file is ordered by writer, and a cut would test on other hands than it trains on.
    """
    with np.load(_FILE, allow_pickle=False) as file:
        images, labels = file["images"][..., None], file["labels"].astype(np.int64)
    rows = np.arange(len(labels), dtype=np.int64)
    words = draw_words(_SPLIT_SEED, "corruption", _SPLIT_DRAW, rows)
    in_test = np.zeros(len(labels), bool)
    for label in range(10):
        members = rows[labels == label]
        in_test[smallest_draws(words[members], members, round(_TEST_SHARE * len(members)))] = True
    return Decoded(
        train=ImageSet(images[~in_test], labels[~in_test]),
        test=ImageSet(images[in_test], labels[in_test]),
        classes=tuple(str(digit) for digit in range(10)),
    )

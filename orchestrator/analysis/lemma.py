"""Lemma 4.1 beside what happens: E[sigma~_i^2] = sigma_i^2 + sigma_i (1 - 2 p_i) ||E|| + ||E||^2 / 3 (Eq. 5).

By Weyl's theorem no singular value moves by more than ||E||, the spectral norm. The lemma follows if sigma~_i - sigma_i
is spread evenly over [-||E||, 0] with probability p_i, and over [0, ||E||] otherwise. Both sides are given, so that
one sees how far real singular values keep from spreading over all of what the theorem leaves them.
"""

from dataclasses import dataclass

import numpy as np

from orchestrator.analysis.comparison import Floats


@dataclass(frozen=True)
class LemmaSides:
    """Both sides of Eq. 5 for each singular value, estimated from draws of the augmentation.

    shrunk   (r,) p_i, the share of draws in which sigma_i decreased
    left     (r,) mean of sigma~_i^2
    error    (r,) standard error of `left`: the sample deviation of sigma~_i^2 over the root of the number of draws
    right    (r,) sigma_i^2 + sigma_i (1 - 2 p_i) mean||E|| + mean||E||^2 / 3
    """

    shrunk: Floats
    left: Floats
    error: Floats
    right: Floats


def lemma_sides(singular: Floats, augmented: Floats, norms: Floats) -> LemmaSides:
    """Estimate both sides from draws.

    singular   (r,) sigma_i of the original data
    augmented  (draws, r) sigma~_i, at least two draws
    norms      (draws,) ||E||
    """
    draws = len(augmented)
    if draws < 2:
        raise ValueError(f"p_i and a standard error need at least 2 draws, got {draws}")
    shrunk = (augmented < singular).mean(axis=0)
    squares = augmented**2
    return LemmaSides(
        shrunk=shrunk,
        left=squares.mean(axis=0),
        error=squares.std(axis=0, ddof=1) / np.sqrt(draws),
        right=singular**2 + singular * (1 - 2 * shrunk) * norms.mean() + (norms**2).mean() / 3,
    )

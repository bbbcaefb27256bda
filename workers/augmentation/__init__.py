"""Weak and strong augmentation, every example with draws of its own, a whole batch at once.

An example's draws are functions of (seed, epoch, id, copy, place of the operation) and of nothing else: not of its
batch, its place there, the rank, or the global random state. The operations are torchvision's, or equal to them up to
rounding; torchvision draws once for a whole batch, and calling it image by image costs more than the step of a small
network. What is done here is the batching: images are grouped by what was drawn for them.
"""

from workers.augmentation.chain import Augmenter
from workers.augmentation.checking import check_augmentation, check_operations
from workers.augmentation.guided import LossGuidedCopies, Pool

__all__ = ["Augmenter", "LossGuidedCopies", "Pool", "check_augmentation", "check_operations"]

"""The learning rate of an epoch: a function of the epoch alone, so that resuming needs no state."""

import math

from specs.training import Cosine, Milestones, Training


def learning_rate(training: Training, epoch: int) -> float:
    """The rate in epoch `epoch`, counted from 0."""
    schedule, peak = training.schedule, training.optimizer.learning_rate
    if epoch < schedule.warmup_epochs:
        return peak * (epoch + 1) / schedule.warmup_epochs
    if isinstance(schedule, Milestones):
        return peak * schedule.gamma ** sum(milestone <= epoch for milestone in schedule.milestones)
    if isinstance(schedule, Cosine):
        length = max(1, training.epochs - schedule.warmup_epochs)
        return peak * 0.5 * (1 + math.cos(math.pi * (epoch - schedule.warmup_epochs) / length))
    return peak

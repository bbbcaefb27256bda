"""Selection problems whose tensors lie on a device, and what is derived from their settings alone."""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from selection.problem import Measure, Memory, Objective, Problem, Solver
from selection.proxies import Int64, ProxyError


@dataclass(frozen=True)
class DeviceProblem:
    """A `selection.problem.Problem` of tensors: solved where they are, without a round trip to the host.

    residuals   (n, C) in any float format: float32, bfloat16, float16
    embeddings  (n, D), or None
    weights     (n,) >= 0, or None
    candidates  (m,) rows, ascending, or None

    The other fields mean what they mean there. That all numbers are finite is checked with the answer, so that asking
    does not stop the device.
    """

    residuals: Tensor
    embeddings: Tensor | None
    objective: Objective
    budget: int | None
    tolerance: float | None
    measure: Measure = "frobenius"
    solver: Solver = "exact"
    epsilon: float = 0.01
    seed: int = 0
    weights: Tensor | None = None
    candidates: Tensor | None = None
    memory: Memory = "auto"
    limit: int = 2 << 30

    def __post_init__(self) -> None:
        if self.residuals.ndim != 2 or 0 in self.residuals.shape:
            raise ProxyError(f"residuals should have shape (n, columns); got {tuple(self.residuals.shape)}")
        if self.embeddings is not None and (self.embeddings.ndim != 2 or len(self.embeddings) != self.size):
            raise ProxyError(f"embeddings should have shape ({self.size}, D); got {tuple(self.embeddings.shape)}")
        if self.weights is not None and self.weights.shape != (self.size,):
            raise ValueError(f"weights should have shape ({self.size},); got {tuple(self.weights.shape)}")
        if self.budget is None and self.tolerance is None:
            raise ValueError("one of budget, tolerance is needed; got budget=None, tolerance=None")
        if self.budget is not None and not 1 <= self.budget <= self.choices:
            raise ValueError(
                f"budget = {self.budget}: should be at least 1 and at most {self.choices}, the candidates there are"
            )

    @property
    def size(self) -> int:
        """n."""
        return len(self.residuals)

    @property
    def choices(self) -> int:
        """How many rows may be picked."""
        return self.size if self.candidates is None else len(self.candidates)

    @property
    def most(self) -> int:
        """How many picks there are at most."""
        return self.choices if self.budget is None else self.budget

    @property
    def sample_sizes(self) -> Int64:
        """Stochastic: the candidates looked at, (most,): (n/k) ln(1/epsilon), at most those that are left."""
        steps = np.arange(self.most)
        share = self.choices / (steps + 1 if self.budget is None else np.full(self.most, self.budget))
        sizes = np.ceil(share * math.log(1 / self.epsilon)).astype(np.int64)
        return np.clip(sizes, 1, self.choices - steps)


def on_device(problem: Problem | DeviceProblem, device: torch.device) -> DeviceProblem:
    """The problem with its numbers on the device; those that are there already are not copied."""
    given = problem.copied_out() if isinstance(problem, Problem) else problem
    fields = {field.name: getattr(given, field.name) for field in dataclasses.fields(DeviceProblem)}
    for name in ("residuals", "embeddings", "weights", "candidates"):
        values = fields[name]
        if isinstance(values, np.ndarray):
            values = torch.from_numpy(values if values.flags.writeable else values.copy())
        fields[name] = None if values is None else values.to(device)
    return DeviceProblem(**fields)

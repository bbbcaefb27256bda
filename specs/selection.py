"""Which examples are augmented, how many, and how often they are chosen anew."""

from typing import Annotated, Literal

from pydantic import Field

from specs.base import Fraction, NonNegative, Positive, Section

Strategy = Literal["none", "random", "max_loss", "coreset", "full"]
Objective = Literal["frobenius", "distance", "rbf"]
Solver = Literal["exact", "lazy", "stochastic"]
ProxyKind = Literal["residual", "last_layer"]
Budgets = Literal["proportional", "equal"]
Weighting = Literal["mean_one", "sum_n", "off"]
Mode = Literal["blocking", "overlapped"]
ProxySource = Literal["forward", "harvest"]


class Selection(Section):
    """The augmented set S."""

    strategy: Strategy = Field(
        "coreset",
        description="none: no copies; random: a random k-subset; max_loss: the k largest losses; "
        "coreset: k medoids in gradient space; full: everything.",
    )
    fraction: Fraction | None = Field(None, description="k = round(fraction * n). One of fraction, budget, tolerance.")
    budget: Positive | None = Field(None, description="k itself.")
    tolerance: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="xi: add medoids to each class until the Frobenius norm of G_S is at most xi (coreset only).",
    )
    every: Positive = Field(1, description="R: epochs between selections.")
    warmup_epochs: NonNegative = Field(
        0,
        description="Epochs before the first selection by loss or gradient; until then S is a random k-subset.",
    )
    mode: Mode = Field(
        "blocking",
        description="blocking: training waits for each selection by loss or gradient; overlapped: it goes on with the "
        "last S while the next is computed, and swaps exactly `lag` epochs after asking. Without warm-up the first "
        "selection has no S to go on with, and blocks; after a warm-up the random S goes on until the swap. A "
        "selection that would come too late for the last epoch is not made.",
    )
    lag: Positive = Field(
        1,
        description="Epochs from asking for a selection to using it, at most `every` (overlapped only). If the answer "
        "is late, training waits: the result does not depend on timing.",
    )
    objective: Objective = Field(
        "frobenius",
        description="Facility location over the distance d in gradient space: frobenius: sum of min d^2; "
        "distance: sum of min d; rbf: sum of max exp(-d/dim).",
    )
    solver: Solver = Field(
        "exact",
        description="exact: greedy, every step takes the largest marginal gain; lazy: the same picks in less memory, "
        "slower; stochastic: the largest gain of a random sample at each step.",
    )
    epsilon: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.01, description="stochastic only: the sample has (n/k) ln(1/epsilon) candidates."
    )
    partitions: Positive = Field(
        1,
        description="Above 1: GreeDi. The largest class is dealt out at random to this many parts, the others in "
        "proportion; greedy on the union of the parts' picks gives the coreset.",
    )
    alpha: Annotated[float, Field(ge=1)] = Field(
        4.0, description="GreeDi only: each part picks min(k, alpha k / partitions)."
    )
    sample: Positive | None = Field(
        None,
        description="GreeDi only: examples over which the gains of the union are reckoned; if left out, "
        "max(50,000, 10 k), or all where that is fewer.",
    )
    proxy: ProxyKind = Field(
        "residual",
        description="residual: softmax(logits) - onehot(label); "
        "last_layer: its outer product with the last layer's input.",
    )
    proxy_source: ProxySource = Field(
        "forward",
        description="Where losses and proxies come from. forward: a pass over all examples before the selection, in "
        "evaluation mode, without augmentation; harvest: the logits of the epoch of training before it, at no pass of "
        "their own: weakly augmented, in training mode (batch norm by the batch's statistics, dropout) and up to an "
        "epoch old. harvest needs regime full+augmented with placement append, and selects by a forward pass where "
        "nothing has been trained yet.",
    )
    per_class: Budgets = Field(
        "proportional",
        description="How the coreset's budget is divided among the classes: by their size, or equally.",
    )
    weights: Weighting = Field(
        "mean_one",
        description="Loss weight of a coreset member: mean_one: gamma*k/n (mean 1 over S); "
        "sum_n: gamma (Eq. 10); off: 1.",
    )

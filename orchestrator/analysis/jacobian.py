"""The Jacobian of a network's outputs with respect to its parameters, slab by slab of its columns.

The paper's J has a row for each example, of a network with one output. A classifier has C of them, and a row for each
pair of example and output: row i*C + c is the gradient of logit c of example i, over all p parameters in the order of
`named_parameters`. So J is (n*C, p), and J J^T is the neural tangent kernel of all logits.

The network is taken in evaluation mode: in training mode batch normalisation makes an example's logits depend on its
batch, and they would have no row of their own. All is float64: with float32 gradients, rounding moves every singular
value by about 1e-7 of the largest, and the smallest ones of a trained network lie below that.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call, jacrev, vmap

_BYTES = 8  # of a float64


class MemoryBudgetError(ValueError):
    """A memory budget that a Jacobian of this size does not fit into."""


@dataclass(frozen=True)
class Plan:
    """How a Jacobian is computed within a memory budget: `columns` at a time, `examples` at a time."""

    columns: int
    examples: int


class Jacobian:
    """The Jacobian of one network, at its parameters as they are. The network's own tensors are left untouched."""

    def __init__(self, module: nn.Module):
        """`module`: in evaluation mode and float64; images (b, C, H, W) to logits (b, outputs)."""
        assert not module.training, "batch normalisation must use its running statistics"
        self._module = module
        self._parameters = {name: tensor.detach() for name, tensor in module.named_parameters()}
        assert all(tensor.dtype == torch.float64 for tensor in self._parameters.values())
        self.columns = sum(tensor.numel() for tensor in self._parameters.values())

    def plan(self, sample: torch.Tensor, rows: int, memory: int) -> Plan:
        """Slabs and chunks with which QR of a Jacobian of so many rows stays within `memory` bytes.

        sample  one network input (1, C, H, W), to measure outputs and activations by
        rows    of the matrix that is factored: two Jacobians on top of each other have twice those of one

        A factorisation holds a slab, a copy of it below the triangle of what came before, and LAPACK's copy of both;
        afterwards a few squares for the decomposition of the triangle. A quarter is left for the gradients under way:
        of each example, those of all outputs twice, and as many cotangents of its activations. Raises MemoryBudgetError
        for a budget with which QR would do little but factor its own triangle again.
        """
        outputs, activations = self._measure(sample)
        factoring, gradients = memory * 3 // 4 // _BYTES, memory // 4 // _BYTES
        columns = min(
            self.columns,
            (factoring - 5 * rows * rows) // (3 * rows),
            (gradients // outputs - activations) // 2,
        )
        least = min(self.columns, max(1, rows // 4))
        if columns < least:
            needed = max((5 * rows * rows + 3 * rows * least) * 4 / 3, 4 * outputs * (2 * least + activations)) * _BYTES
            raise MemoryBudgetError(
                f"a Jacobian of {rows:,} rows (original and augmented) and {self.columns:,} columns needs at least "
                f"{needed / 1e9:.2g} GB; got {memory / 1e9:.2g} GB"
            )
        return Plan(columns, gradients // (outputs * (2 * columns + activations)))

    def _measure(self, sample: torch.Tensor) -> tuple[int, int]:
        """How many outputs the network has, and how many numbers all layers together put out, for one example."""
        activations = 0

        def count(layer: nn.Module, inputs: object, output: object) -> None:
            nonlocal activations
            if isinstance(output, torch.Tensor):
                activations += output.numel()

        hooks = [layer.register_forward_hook(count) for layer in self._module.modules()]
        try:
            with torch.no_grad():
                outputs: int = self._module(sample).shape[1]
        finally:
            for hook in hooks:
                hook.remove()
        return outputs, activations

    def slabs(self, inputs: torch.Tensor, plan: Plan) -> Iterator[torch.Tensor]:
        """J in slabs of its columns, from left to right: (n * outputs, at most plan.columns), float64.

        inputs  float64 (n, C, H, W), on the network's device

        Cost: for each slab a forward pass and `outputs` backward ones, to the first layer that the slab reaches.
        """
        for start in range(0, self.columns, plan.columns):
            yield self._slab(inputs, start, min(start + plan.columns, self.columns), plan.examples)

    def _slab(self, inputs: torch.Tensor, start: int, stop: int, examples: int) -> torch.Tensor:
        cuts = self._cuts(start, stop)
        pieces = {name: self._parameters[name].reshape(-1)[cut] for name, cut in cuts.items()}

        def logits(pieces: Mapping[str, torch.Tensor], image: torch.Tensor) -> torch.Tensor:
            inserted = {name: _insert(self._parameters[name], piece, cuts[name]) for name, piece in pieces.items()}
            output: torch.Tensor = functional_call(self._module, {**self._parameters, **inserted}, (image[None],))
            return output[0]

        gradients = vmap(jacrev(logits), in_dims=(None, 0))
        slab: torch.Tensor | None = None
        for first in range(0, len(inputs), examples):
            chunk = gradients(pieces, inputs[first : first + examples])
            if slab is None:
                slab = inputs.new_empty(len(inputs), next(iter(chunk.values())).shape[1], stop - start)
            column = 0
            for gradient in (chunk[name] for name in cuts):  # in the order of the columns
                slab[first : first + examples, :, column : column + gradient.shape[2]] = gradient
                column += gradient.shape[2]
        assert slab is not None
        return slab.flatten(0, 1)

    def _cuts(self, start: int, stop: int) -> dict[str, slice]:
        """Which entries of which parameters make up the columns from start to stop."""
        cuts, before = {}, 0
        for name, tensor in self._parameters.items():
            first, last = max(start - before, 0), min(stop - before, tensor.numel())
            if first < last:
                cuts[name] = slice(first, last)
            before += tensor.numel()
        return cuts


def _insert(whole: torch.Tensor, piece: torch.Tensor, cut: slice) -> torch.Tensor:
    """A parameter with one of its pieces put in its place, so that gradients reach the piece."""
    if len(piece) == whole.numel():
        return piece.view(whole.shape)
    flat = whole.reshape(-1)
    return torch.cat([flat[: cut.start], piece, flat[cut.stop :]]).view(whole.shape)

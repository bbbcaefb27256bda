"""The augmented set S of a trial, from epoch to epoch: selected when due, and swapped when its time has come."""

from collections.abc import Callable
from typing import Any

from torch import nn

from selection.mapper import Mapper
from selection.select import Selection
from selection.strategies import Candidates
from workers.clock import Clock
from workers.group import Group
from workers.harvesting import Harvest, Measured
from workers.overlapping import (
    Background,
    Request,
    measured_from_state,
    measured_state,
    request_from_state,
    request_state,
)
from workers.records import SelectionRecord
from workers.selecting import Chooser, Chosen, Waiting, chosen_from_state, chosen_state


class AugmentedSet:
    """What S is now, and the selection on the way, if there is one.

    measure  gives the candidates for a strategy by a forward pass; every process of the group takes part
    store    is given every selection when it is first used, with the epoch it was asked for, on rank 0
    """

    def __init__(
        self,
        chooser: Chooser,
        measure: Callable[[str], Measured],
        store: Callable[[int, Selection], None],
        mapper: Mapper,
        group: Group,
    ):
        self.chooser = chooser
        self.measure, self.store = measure, store
        self.mapper, self.group = mapper, group
        self.chosen: Chosen | None = None
        self._harvested: Measured | None = None
        self._pending: Request | None = None
        self._background: Background | None = None

    def update(self, epoch: int, clock: Clock) -> SelectionRecord | None:
        """Do what is due before epoch `epoch`. Every process asks, with what it holds, and gets the same answer.

        Returns the record of the selection that S now is, where it has changed. Raises OverlappedSelectionError
        where the selection to be swapped in has failed.
        """
        swapped = self._swap(epoch, clock)
        strategy = self.chooser.due(epoch)
        if strategy is None:
            return swapped
        request = Request(strategy, epoch, self._measure(strategy, epoch, clock))
        if self.chooser.used_from(strategy, epoch) > epoch:
            self._send(request)
            return swapped
        waiting = Waiting()
        selection = self._compute(request)
        clock.seconds["selection"], clock.seconds["stall"] = waiting.split(selection)
        return self._use(request, selection)

    def harvest(self, epoch: int, module: nn.Module) -> Harvest | None:
        """What epoch `epoch` is to fill while it trains, where a selection takes its candidates from it."""
        if not self.chooser.harvests(epoch):
            return None
        return Harvest(module, embeddings=self.chooser.needs_embeddings(self.chooser.spec.selection.strategy))

    def keep(self, measured: Measured) -> None:
        """Keep what was harvested, for the selection due next."""
        self._harvested = measured

    def _measure(self, strategy: str, epoch: int, clock: Clock) -> Measured:
        examples = self.chooser.examples
        if not self.chooser.needs_proxies(strategy):
            return Measured(Candidates(examples.ids, examples.labels))
        if self.chooser.spec.harvests() and epoch > 0:
            measured, self._harvested = self._harvested, None
            assert measured is not None
            return measured
        with clock.span("proxies"):
            return self.measure(strategy)

    def _compute(self, request: Request) -> Selection:
        return self.chooser.select(request.strategy, request.measured.candidates, request.epoch, self.mapper)

    def _send(self, request: Request) -> None:
        self._pending = request
        self._background = Background(request, self._compute)

    def _swap(self, epoch: int, clock: Clock) -> SelectionRecord | None:
        request = self._pending
        if request is None or epoch < self.chooser.used_from(request.strategy, request.epoch):
            return None
        waiting = Waiting()
        assert self._background is not None
        selection = self._background.wait()
        clock.seconds["stall"] = waiting.elapsed()
        clock.seconds["background"] = selection.seconds
        self._pending = self._background = None
        return self._use(request, selection)

    def _use(self, request: Request, selection: Selection) -> SelectionRecord | None:
        strategy, epoch, measured = request.strategy, request.epoch, request.measured
        self.chosen = self.chooser.chosen(strategy, selection)
        if strategy == "full":
            return None
        if self.group.rank == 0:
            self.store(epoch, selection)
        return self.chooser.record(strategy, selection, measured.candidates, epoch, measured.staleness)

    def state(self) -> dict[str, Any]:
        """S, what was harvested for the next selection, and the selection on the way, as they go into a checkpoint.

        Every process of the group calls this; what rank 0 gets is whole.
        """
        state: dict[str, Any] = {"chosen": chosen_state(self.chosen)}
        if self._harvested is not None:
            state["harvested"] = measured_state(self._harvested, self.group)
        if self._pending is not None:
            state["pending"] = request_state(self._pending, self.group)
        return state

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint: the selection that was on the way is asked for again."""
        examples = self.chooser.examples
        self.chosen = chosen_from_state(state["chosen"])
        if "harvested" in state:
            self._harvested = measured_from_state(state["harvested"], examples, self.group)
        if "pending" in state:
            self._send(request_from_state(state["pending"], examples, self.group))

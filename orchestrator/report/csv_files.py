"""The CSV files: byte-identical for the same results, except `times.csv`, which alone holds clocks and machines."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from orchestrator.report.comparisons import Comparison, axis_values, compare, value_text
from orchestrator.report.paper import Reproduction, reproduction
from orchestrator.report.results import Results
from workers.records import EpochRecord, EpochTimes, SelectionRecord


def csv_files(results: Results) -> dict[str, bytes]:
    """File name: contents. Accuracies and shares run from 0 to 1, times are in seconds.

    Floats are written in full precision, lines end with a line feed, trials stand in the sweep's order. `paper.csv`
    is there where the sweep reproduces published figures, and is in their unit, %.
    """
    comparisons, found = compare(results), reproduction(results)
    beside = {"paper.csv": _paper(found, comparisons)} if found and found.published.sizes else {}
    return {
        "table.csv": _table(comparisons),
        **beside,
        "trials.csv": _trials(results),
        "curves.csv": _per_trial(results, EpochRecord, "epochs"),
        "selections.csv": _per_trial(results, SelectionRecord, "selections"),
        "times.csv": _times(results),
    }


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """A table as CSV: floats in full precision, None as nothing, lines that end with a line feed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)  # the csv module writes floats by repr and None as nothing
    return text.getvalue().encode()


def _table(comparisons: tuple[Comparison, ...]) -> bytes:
    axes = [field for field, _ in comparisons[0].point] if comparisons else []
    rows = []
    for comparison in comparisons:
        for cell in comparison.cells:
            accuracy, share = cell.accuracy, cell.share
            rows.append(
                [
                    cell.strategy,
                    cell.size,
                    *(value_text(value) for _, value in comparison.point),
                    len(cell.results),
                    *((accuracy.mean, accuracy.std) if accuracy else (None, None)),
                    *((share.share, share.low, share.high) if share else (None, None, None)),
                    cell.cell_hash,
                ]
            )
    header = ["strategy", "size", *axes, "n", "mean", "std", "share", "share_low", "share_high", "cell_hash"]
    return csv_bytes(header, rows)


def _paper(found: Reproduction, comparisons: tuple[Comparison, ...]) -> bytes:
    axes = [field for field, _ in comparisons[0].point] if comparisons else []
    rows = []
    for comparison in comparisons:
        for table in found.tables(comparison):
            for entry in table.entries:
                here, there = entry.here, entry.published
                rows.append(
                    [
                        table.quantity,
                        entry.strategy,
                        entry.size,
                        *(value_text(value) for _, value in comparison.point),
                        entry.n,
                        *((here.value, here.std, here.low, here.high) if here else (None,) * 4),
                        *((there.value, there.std, int(there.below)) if there else (None,) * 3),
                        entry.difference,
                    ]
                )
    measured = ["here", "here_std", "here_low", "here_high"]
    printed = ["published", "published_std", "published_is_bound", "difference"]
    return csv_bytes(["quantity", "strategy", "size", *axes, "n", *measured, *printed], rows)


def _trials(results: Results) -> bytes:
    places = [axis_values(outcome.entry) for outcome in results.outcomes]
    axes = list(dict.fromkeys(field for place in places for field in place))
    rows = []
    for outcome, place in zip(results.outcomes, places, strict=True):
        entry, result = outcome.entry, outcome.result
        rows.append(
            [
                entry.id,
                entry.strategy,
                entry.size,
                *(value_text(place[axis]) if axis in place else None for axis in axes),
                entry.seed,
                outcome.state,
                result.test_accuracy if result else None,
                result.data.fingerprint if result else None,
                entry.cell_hash,
                entry.spec_hash,
            ]
        )
    header = ["trial", "strategy", "size", *axes, "seed", "state", "test_accuracy", "data"]
    return csv_bytes([*header, "cell_hash", "spec_hash"], rows)


def _per_trial(results: Results, kind: type[EpochRecord | SelectionRecord], part: str) -> bytes:
    fields = list(kind.model_fields)
    rows = [
        [outcome.entry.id, *(getattr(record, field) for field in fields)]
        for outcome in results.outcomes
        if outcome.result is not None
        for record in getattr(outcome.result, part)
    ]
    return csv_bytes(["trial", *fields], rows)


def _times(results: Results) -> bytes:
    fields = list(EpochTimes.model_fields)
    rows = []
    for outcome in results.outcomes:
        times = outcome.times
        if times is not None:
            versions = " ".join(f"{name}={version}" for name, version in sorted(times.versions.items()))
            machine = [times.host, times.hardware, times.commit, versions, times.concurrent]
            rows += [[times.trial_id, *machine, *(getattr(epoch, name) for name in fields)] for epoch in times.epochs]
    return csv_bytes(["trial", "host", "hardware", "commit", "versions", "concurrent", *fields], rows)

"""A sweep's outlook: sums by hand, the way over a job's log, and what is shown of it."""

from rich.console import Console

from orchestrator.estimates import Estimate, Outlook, read_outlook
from orchestrator.tables import plan_table

CELLS = (
    Estimate("coreset 10%", 3, 2, 100, 1100, 5_000_000, seconds=60.0, measured=True, at_once=4),
    Estimate("full", 3, 3, 1000, 2000, 0, seconds=200.0, measured=False, at_once=2),
)


def test_hours_are_those_of_what_is_left_as_many_at_a_time_as_fit() -> None:
    outlook = Outlook("mine", "2 nodes with 8 CPUs", CELLS)
    assert (outlook.trials, outlook.todo) == (6, 5)
    # 0 s: both of the first and one of the second, which take all; 60 s: another; 200 s: the last
    assert outlook.seconds == 400
    assert Outlook("mine", "2 nodes with 8 CPUs", CELLS[:1]).seconds == 60, "no trial is faster for having room"
    assert Outlook("mine", "2 nodes with 8 CPUs", ()).seconds == 0


def test_comes_through_as_one_line_of_json() -> None:
    outlook = Outlook("mine", "2 nodes with 8 CPUs", (*CELLS, Estimate("ξ=0.5", 1, 1, None, None, 0, 1.5, False)))
    assert "\n" not in outlook.to_json()
    assert read_outlook(outlook.to_json()) == outlook


def test_shows_where_and_what_is_skipped() -> None:
    console = Console(width=150, record=True)
    console.print(plan_table(Outlook("mine", "2 nodes with 8 CPUs", CELLS)))
    text = " ".join(console.export_text().split())
    assert "mine: 6 trials, 5 to do (1 finished: skipped)" in text
    assert "About 6.7 min in all on 2 nodes with 8 CPUs, 2 or 4 at a time." in text
    assert "60.0 s*" in text

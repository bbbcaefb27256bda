"""The paper's tables and ours in the words that every form of them shares."""

from orchestrator.report.paper import LABELS, Entry, PaperTable, Reproduction
from orchestrator.report.published import Quantity
from orchestrator.report.wording import BLANK

QUANTITIES: dict[Quantity, str] = {
    "accuracy": "test accuracy in %",
    "share": "share of full augmentation’s gain over weak only, in %",
    "speedup": "speed-up over full augmentation, in training time",
}


_DIGITS: dict[Quantity, int] = {"accuracy": 1, "share": 1, "speedup": 2}


def entry_text(quantity: Quantity, entry: Entry) -> str:
    """What was measured here: `37.1 ± 0.4`, a share `73.0 [51.4, 92.1]`, a speed-up `3.10 ± 0.04 ×`."""
    return f"{value_text(quantity, entry)} {interval_text(quantity, entry)}".rstrip()


def value_text(quantity: Quantity, entry: Entry) -> str:
    """The same without an interval."""
    if entry.here is None:
        return BLANK
    digits = _DIGITS[quantity]
    deviation = "" if entry.here.std is None else f" ± {entry.here.std:.{digits}f}"
    return f"{_number(entry.here.value, digits)}{deviation}{' ×' if quantity == 'speedup' else ''}"


def interval_text(quantity: Quantity, entry: Entry) -> str:
    """`[51.4, 92.1]`; nothing where there is no interval."""
    here, digits = entry.here, _DIGITS[quantity]
    if here is None or here.low is None or here.high is None:
        return ""
    return f"[{_number(here.low, digits)}, {_number(here.high, digits)}]"


def beside_text(quantity: Quantity, entry: Entry) -> str:
    """What the paper has there, and the difference: `paper 37.8, −0.7`; nothing where the paper has nothing."""
    found = entry.published
    if found is None:
        return ""
    if entry.here is None:
        return f"paper {found.text}"
    if entry.difference is None:
        return f"paper {found.text}, so here"
    difference = f"{entry.difference:+.{2 if quantity == 'speedup' else 1}f}".replace("-", "−")
    return f"paper {found.text}, {difference}"


def baseline_text(quantity: Quantity, entry: Entry) -> str:
    """`Weak only: 89.5 ± 0.2 (n = 3; paper 89.46, +0.0)`."""
    said = "; ".join(part for part in (entry_seeds_text(entry), beside_text(quantity, entry)) if part)
    return f"{LABELS[entry.strategy]}: {entry_text(quantity, entry)} ({said})"


def entry_seeds_text(entry: Entry) -> str:
    """`n = 3`, or `n = 2 of 3` where trials are missing; nothing where there are none."""
    if not entry.asked:
        return ""
    return f"n = {entry.n}" if entry.n == entry.asked else f"n = {entry.n} of {entry.asked}"


def table_title(table: PaperTable) -> str:
    """What a table of the paper's layout shows."""
    return QUANTITIES[table.quantity]


def setup_text(reproduction: Reproduction) -> str:
    """How the set-up relates to the paper's, to be followed by the differences where there are some."""
    library = f"the library’s spec {reproduction.name}"
    known = "which is the paper’s as far as it is known and marks what is our own choice"
    if not reproduction.differences:
        return f"The set-up is that of {library}, {known}."
    return f"The set-up is not that of {library}, {known}. Where it differs:"


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−")

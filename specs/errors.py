"""What is wrong with a spec, said so that it can be mended: file, line, field, value, what is allowed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any


def nearest(name: str, allowed: Iterable[str]) -> str:
    """` (did you mean 'x'?)` where some allowed name is close, else nothing."""
    close = get_close_matches(name, list(allowed), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and where."""

    message: str
    path: str = ""
    file: str = ""
    line: int | None = None
    value: Any = None
    has_value: bool = False

    def __str__(self) -> str:
        place = self.file + (f":{self.line}" if self.line else "")
        shown = ""
        if self.has_value and not isinstance(self.value, dict):
            text = repr(self.value)
            shown = f" = {text if len(text) <= 60 else text[:57] + '...'}"
        return ": ".join(part for part in (place, f"{self.path}{shown}", self.message) if part)


class SpecError(ValueError):
    """A spec that cannot be used. `problems` holds all that is wrong with it, not only the first thing."""

    def __init__(self, problems: Sequence[Problem]):
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

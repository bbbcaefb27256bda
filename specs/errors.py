"""What is wrong with a spec, said so that it can be mended: file, line, field, value, what is allowed."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

_WORDS = {None: "null", True: "true", False: "false"}
_LONGEST = 60


def nearest(name: str, allowed: Iterable[str]) -> str:
    """` (did you mean 'x'?)` where some allowed name is close, else nothing."""
    from difflib import get_close_matches  # a good spec never needs it

    close = get_close_matches(name, list(allowed), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def without_passwords(text: str) -> str:
    """A text as it may be shown: the passwords of URIs that it quotes are `***`."""
    text = re.sub(r"(://[^\s:@/]*):\S*@", r"\1:***@", text)
    return re.sub(r"([?&](?:password|sslpassword)=)[^&\s'\"]*", r"\1***", text)


def shown(value: Any) -> str:
    """A value as a spec file writes it, cut to 60 characters, without passwords."""
    text = _WORDS[value] if value is None or isinstance(value, bool) else without_passwords(repr(value))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and where. `value` is shown only where `has_value` is set: null is a value too."""

    message: str
    path: str = ""
    file: str = ""
    line: int | None = None
    value: Any = field(default=None, hash=False)  # may be a list
    has_value: bool = False

    def __str__(self) -> str:
        place = self.file + (f":{self.line}" if self.line else "")
        value = f" = {shown(self.value)}" if self.has_value and not isinstance(self.value, dict) else ""
        return without_passwords(": ".join(part for part in (place, self.path + value, self.message) if part))


class SpecError(ValueError):
    """A spec that cannot be used. `problems` holds all that is wrong with it, not only the first thing."""

    def __init__(self, problems: Sequence[Problem]):
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.file, problem.line or 0)))
        super().__init__("\n".join(str(problem) for problem in self.problems))

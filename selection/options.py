"""Options of `select` and `plan`: what each may be."""

from numbers import Real
from typing import Any, get_args

import numpy as np

from selection.budgets import Division
from selection.problem import Measure, Memory, Objective, Solver

_WORDS = {
    "objective": get_args(Objective),
    "solver": get_args(Solver),
    "measure": get_args(Measure),
    "memory": get_args(Memory),
    "per_class": (True, False, *get_args(Division)),
    "division": get_args(Division),
}
_WHOLE = {  # from, to below, of what
    "memory_limit": (0, 2**63, " of bytes"),
    "seed": (0, 2**64, ""),
    "columns": (1, 2**31, ""),
    "threads": (1, 2**31, ""),
    "embedding": (1, 2**31, ""),
}


def check_options(**given: Any) -> None:
    """Raises ValueError naming the first option that is not what it may be, with its value and what is allowed."""
    for name, value in given.items():
        if name in _WORDS:
            allowed = _WORDS[name]
            if value not in allowed:
                listed = " or ".join((", ".join(map(repr, allowed[:-1])), repr(allowed[-1])))
                raise ValueError(f"{name} = {value!r}: should be {listed}")
        elif name in _WHOLE:
            least, above, unit = _WHOLE[name]
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= value < above:
                bounds = f"at least {least} and below {above}"
                raise ValueError(f"{name} = {value!r}: should be a whole number{unit}, {bounds}")
        elif name == "epsilon":
            if not _number(value) or not 0 < value < 1:
                raise ValueError(f"epsilon = {value!r}: should be above 0 and below 1")
        elif not _number(value) or not value > 0:
            raise ValueError(f"{name} = {value!r}: should be above 0")


def _number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)

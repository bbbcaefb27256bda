"""Which errors are the user's to mend."""


def user_errors() -> tuple[type[Exception], ...]:
    """Error types whose message says what is wrong and what is allowed: shown without a trace."""
    from orchestrator.tracking_uri import TrackingError
    from selection.budgets import BudgetError
    from specs import SpecError
    from workers.data import DataError
    from workers.storage import StorageError

    found: tuple[type[Exception], ...] = (SpecError, DataError, BudgetError, StorageError, TrackingError, UserError)
    return found


class UserError(ValueError):
    """Something asked for that cannot be done: says what, and what can."""

"""Why a tracking server does not let us in, and what to set. Names and passwords are read by MLflow's own client."""

import os

REFUSED = frozenset({"UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "PERMISSION_DENIED"})
NAME, PASSWORD, TOKEN = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"


class AccessError(RuntimeError):
    """The store answers, but not to us."""


def access_error(error: Exception) -> AccessError | None:
    """What to tell the user, where an error of MLflow's client is a refusal of access; None where it is not.

    The text names a user, never a password or a token.
    """
    code = getattr(error, "error_code", None)
    if code not in REFUSED:
        return None
    name, password, token = (os.environ.get(variable) for variable in (NAME, PASSWORD, TOKEN))
    if "Invalid Host header" in str(error):
        return AccessError("it refuses requests to this host name, which its --allowed-hosts must list")
    if code == "PERMISSION_DENIED":
        return AccessError(f"{name or 'this user'} may not write there: a manager of the experiment has to allow it")
    if name and password:
        return AccessError(f"it does not accept {name!r} with the password given ({NAME}, {PASSWORD})")
    if token:
        return AccessError(f"it does not accept the token given ({TOKEN})")
    return AccessError(f"it asks for a name and a password: set {NAME} and {PASSWORD}, or {TOKEN}")

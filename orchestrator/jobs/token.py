"""The token that a cluster asks for: found where Ray looks for it, and never shown."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.errors import UserError


class TokenError(UserError):
    """No token to use, or one that the cluster does not take: says what to set."""


@dataclass(frozen=True)
class Token:
    """A token, and where it was found. Neither its text nor its repr holds it."""

    secret: str = field(repr=False)
    source: str

    def headers(self) -> dict[str, str]:
        """What goes with every request."""
        return {"Authorization": f"Bearer {self.secret}"}


def find_token(address: str) -> Token:
    """The token in $RAY_AUTH_TOKEN, or in the file $RAY_AUTH_TOKEN_PATH, or in ~/.ray/auth_token.

    Raises TokenError where authentication is not switched on here ($RAY_AUTH_MODE), or there is no token.
    """
    mode = os.environ.get("RAY_AUTH_MODE")
    if mode is None or mode.lower() != "token":
        found = "is not set" if mode is None else f"= {mode!r}"
        raise TokenError(
            f"{address} is spoken to with a token only, and RAY_AUTH_MODE {found}: set RAY_AUTH_MODE=token"
        )
    if secret := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return _usable(secret, "$RAY_AUTH_TOKEN")
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else Path.home() / ".ray" / "auth_token"
    source = f"{path} ($RAY_AUTH_TOKEN_PATH)" if named else str(path)
    try:
        secret = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise TokenError(
            f"no token for {address}: {source} is not there. Save the cluster's token in ~/.ray/auth_token, or in a "
            "file that RAY_AUTH_TOKEN_PATH names, or set RAY_AUTH_TOKEN"
        ) from None
    except OSError as error:
        raise TokenError(f"no token for {address}: {source} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise TokenError(f"no token for {address}: {source} holds other than ASCII text") from None
    if not secret:
        raise TokenError(f"no token for {address}: {source} is empty; write the cluster's token to it")
    return _usable(secret, source)


def _usable(secret: str, source: str) -> Token:
    if not (secret.isascii() and secret.isprintable() and " " not in secret):
        raise TokenError(f"the token in {source} is not one: it should be one line of letters, digits and signs")
    return Token(secret, source)

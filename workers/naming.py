"""What a sweep is called where several share a cluster or a machine."""

import hashlib

_DIGITS = 8


def sweep_id(storage: str) -> str:
    """Tells sweeps apart that share a name: 8 hexadecimal digits of the SHA-256 of where their results are kept.

    `storage` is the URI of the sweep's own folder. One place is one sweep: a second writer of it is refused. An S3
    server's address is no part of it, since one server may have several: two servers with the same bucket and prefix
    cannot serve sweeps of one name on one cluster at the same time.
    """
    return hashlib.sha256(storage.encode()).hexdigest()[:_DIGITS]


def unique_name(storage: str) -> str:
    """The sweep's name and id, such as `tiny-3fa9c2d1`: what all that it owns on a cluster is called by."""
    return f"{storage.rstrip('/').rsplit('/', 1)[-1]}-{sweep_id(storage)}"

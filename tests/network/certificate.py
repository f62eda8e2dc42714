"""Keys and certificates, made by an authority that lives as long as a run of the tests."""

from __future__ import annotations

import functools
from datetime import datetime

import trustme

LOOPBACK = ("localhost", "127.0.0.1")


@functools.cache
def _authority() -> trustme.CA:
    return trustme.CA()


@functools.cache
def certificate_for(*names: str, not_before: datetime | None = None, not_after: datetime | None = None) -> str:
    """PEM of a key, its certificate, and the authority's: for a server to load, and for a client to trust."""
    issued = _authority().issue_cert(*names, not_before=not_before, not_after=not_after)
    return (issued.private_key_and_cert_chain_pem.bytes() + _authority().cert_pem.bytes()).decode("ascii")

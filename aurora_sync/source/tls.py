"""Checks that a connection to the source is protected: encrypted, with a server whose certificate is verified.

libpq's default, sslmode=prefer, accepts any certificate, and a server without TLS.
"""

from __future__ import annotations

import functools
import ipaddress
import logging
import os
import socket

from psycopg2.extensions import connection as Connection

logger = logging.getLogger(__name__)

_VERIFIED = ("verify-ca", "verify-full")


def problem(connection: Connection, variable: str = "AURORA_DSN") -> str | None:
    """Describe why somebody on the network could read or change what is sent. Returns None for a verified connection,
    or if the server is on this machine."""
    mode = connection.info.dsn_parameters.get("sslmode", "prefer")
    if mode in _VERIFIED or _is_local(connection):
        return None
    # With require, libpq verifies the certificate only if it finds a file of authorities, and reports nothing if not.
    found = f"encrypted, but sslmode={mode} accepts a server whose certificate is not verified"
    if not connection.info.ssl_in_use:
        found = f"not encrypted (sslmode={mode})"
    return (
        f"the connection is {found}; in {variable} set sslmode=verify-full, and sslrootcert=FILE with the certificates"
        " of the authority (docs/deployment.md)"
    )


def warn(connection: Connection, where: str, variable: str) -> None:
    """Log the problem of a connection, if it has one, once per process."""
    if text := problem(connection, variable):
        _log(f"{where}: {text}")


@functools.cache
def _log(text: str) -> None:
    logger.warning(text)


def _is_local(connection: Connection) -> bool:
    """Return whether the peer is a Unix socket or a loopback address. The host name is not used: it proves nothing."""
    with socket.socket(fileno=os.dup(connection.fileno())) as end:
        if end.family not in (socket.AF_INET, socket.AF_INET6):
            return True
        try:
            address = ipaddress.ip_address(end.getpeername()[0])
        except OSError:  # the server closed the connection: the next statement reports it
            return True
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback

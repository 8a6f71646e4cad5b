"""How a session of Snowflake is opened: session parameters and private keys."""

from __future__ import annotations

import base64
from pathlib import Path

# The statements of merge.py rely on these, whatever the defaults of the account are.
SESSION_PARAMETERS: dict[str, str | int | bool] = {
    "TRANSACTION_ABORT_ON_ERROR": True,  # else COMMIT keeps the statements before one that failed
    "ERROR_ON_NONDETERMINISTIC_MERGE": True,
    "ERROR_ON_NONDETERMINISTIC_UPDATE": True,
    "LOCK_TIMEOUT": 600,  # s; with the default of 12 hours, a run would wait for the transaction of a killed rival
    "TIMEZONE": "UTC",
    "DATE_INPUT_FORMAT": "AUTO",
    "TIME_INPUT_FORMAT": "AUTO",
    "TIMESTAMP_INPUT_FORMAT": "AUTO",
    "BINARY_INPUT_FORMAT": "HEX",
    "DATE_OUTPUT_FORMAT": "YYYY-MM-DD",  # these three are for verify, which compares texts
    "TIME_OUTPUT_FORMAT": "HH24:MI:SS.FF6",
    "TIMESTAMP_NTZ_OUTPUT_FORMAT": "YYYY-MM-DD HH24:MI:SS.FF6",
    "QUOTED_IDENTIFIERS_IGNORE_CASE": False,
}


def private_key(text: str | None, path: str | None, passphrase: str | None) -> bytes | None:
    """Return the key of ``text`` or of the file ``path`` in DER, as the connector expects it; None without a key.
    Raises ValueError, TypeError or OSError."""
    if path is not None:
        content = Path(path).read_bytes()
    elif text is not None:
        content = text.encode()
    else:
        return None
    return _der(content, None if passphrase is None else passphrase.encode())


def _der(text: bytes, passphrase: bytes | None) -> bytes:
    """Convert PEM, which may be base64-encoded as a whole, to unencrypted DER."""
    from cryptography.hazmat.primitives import serialization

    try:
        key = serialization.load_pem_private_key(text, passphrase)
    except ValueError:
        try:
            key = serialization.load_pem_private_key(base64.b64decode(text), passphrase)
        except ValueError:
            raise ValueError(
                "Unable to load private key. You may need to base64 encode your private key. You can retrieve the"
                " base64 encoded key with this shell command: cat rsa_key.p8 | base64"
            ) from None
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )

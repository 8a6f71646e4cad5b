"""Names that a report must not hold are replaced by what they are: ``<account>``, ``<bucket>``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

# Names that no setting holds: an error of a server or of the connector may print them.
_FORMS = (
    (re.compile(r"\bs3[a-z]*://[^/\s'\"]+", re.IGNORECASE), "s3://<bucket>"),
    (re.compile(r"\barn:aws[\w-]*:[^\s'\"]+", re.IGNORECASE), "<arn>"),
    (re.compile(r"[\w.-]+\.(?:snowflakecomputing|amazonaws)\.[a-z.]*[a-z]", re.IGNORECASE), "<host>"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b"), "<address>"),
    (re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+\w"), "<user>"),
)


# Settings whose values are numbers or common words.
_NO_NAME = re.compile("TIMEOUT|PROTOCOL|PORT$|AUTHENTICATOR|DISABLED|RETRY|MODE|ATTEMPTS|DEFAULTS|REGION")


@dataclass(frozen=True)
class Redaction:
    """``names`` are what to replace, and by what. Names are found in any case, also beside other characters than
    letters and digits; the longest first."""

    names: Mapping[str, str] = field(default_factory=dict)

    def clean(self, text: str) -> str:
        """Return the text without the names.

        >>> Redaction({"acme-prod": "<account>"}).clean("ACME-PROD refused 10.0.0.7, see s3://lake/x")
        '<account> refused <address>, see s3://<bucket>/x'
        """
        for name in sorted(self.names, key=len, reverse=True):
            text = re.sub(rf"(?i)(?<![a-z0-9]){re.escape(name)}(?![a-z0-9])", self.names[name], text)
        for form, instead in _FORMS:
            text = form.sub(instead, text)
        return text


def of_environment(environ: Mapping[str, str]) -> Redaction:
    """Return the redaction of every name in the settings: of the account and its parts, hosts, users, roles,
    warehouses, databases, stages, the bucket and its prefix, and every secret."""
    names: dict[str, str] = {}

    def hide(name: Any, instead: str) -> None:
        if name and len(str(name)) > 1:
            names.setdefault(str(name), f"<{instead}>")

    account = environ.get("SNOWFLAKE_ACCOUNT", "")
    for part in (account, *re.split(r"[.-]", account)):
        if not re.fullmatch("[0-9]{1,3}", part):
            hide(part, "account")
    for variable, value in environ.items():
        if re.fullmatch("(SNOWFLAKE|AWS)_.*", variable) and not _NO_NAME.search(variable):
            hide(value, variable.partition("_")[2].lower().replace("_", " "))
    for variable in ("SNOWFLAKE_STAGE", "SNOWFLAKE_DMS_STAGE"):
        for part in environ.get(variable, "").split("."):
            hide(part, "stage")
    for variable in ("AURORA_DSN", "AURORA_OWNER_DSN"):
        parts = urlsplit(environ.get(variable, ""))
        for part, instead in ((parts.hostname, "host"), (parts.username, "user"), (parts.password, "password")):
            hide(unquote(part or ""), instead)
        hide(parts.path.strip("/"), "database")
    url = urlsplit(environ.get("AURORA_SYNC_STAGE", ""))
    hide(url.netloc, "bucket")
    hide(url.path.strip("/"), "prefix")
    return Redaction(names)

"""Translates errors of ``aws_s3.query_export_to_s3`` into SourceError, with the step that mends them.

The function reports every failure of S3 with the same SQLSTATE (58000) and message. Only the detail, which is the
answer of the S3 client, shows whether a retry may succeed.
"""

from __future__ import annotations

import re

import psycopg2
from psycopg2 import errors

from aurora_sync.errors import Kind, SourceError
from aurora_sync.source import server_errors

_SETUP = "`aurora-sync setup aurora` prints all that is needed"
_GRANTS = (
    "GRANT USAGE ON SCHEMA aws_s3, aws_commons TO this role; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA aws_s3,"
    f" aws_commons TO this role; {_SETUP}"
)
_OURS = re.compile(r"\b(aws_s3|aws_commons|query_export_to_s3|create_s3_uri|_s3_uri_1)\b")
# By a pattern of the function's message and detail: the next step, and the kind of the error. The first match counts.
_ANSWERS = (
    (
        r"credentials stored with the database|s3Export|assume",
        f"attach an IAM role to the cluster: aws rds add-role-to-db-cluster ... --feature-name s3Export; {_SETUP}",
        Kind.REFUSED,
    ),
    (
        r"bucket does not exist|NoSuchBucket",
        "create the bucket in the region of the cluster, or correct AURORA_SYNC_STAGE",
        Kind.REFUSED,
    ),
    (
        r"kms|encrypt",
        "the IAM role of the cluster needs kms:GenerateDataKey and kms:Decrypt on the key of the bucket, which"
        f" AURORA_EXPORT_KMS_KEY names if it is not aws/s3; {_SETUP}",
        Kind.REFUSED,
    ),
    (
        r"redirect|301|wrong region|is wrong; expecting|must be addressed",
        "the bucket must be in the region of the cluster",
        Kind.REFUSED,
    ),
    (
        r"access ?denied|forbidden|403|not authorized",
        "the IAM role of the cluster needs s3:PutObject and s3:AbortMultipartUpload below AURORA_SYNC_STAGE, and"
        f" kms:GenerateDataKey and kms:Decrypt on the key of the bucket if it has one; {_SETUP}",
        Kind.REFUSED,
    ),
    (
        r"unable to connect|time[d ]*out|resolve|network",
        "the cluster does not reach S3: allow HTTPS in the outbound rules of its security group, and give its subnets a"
        " gateway endpoint for S3, or a NAT gateway",
        Kind.TRANSIENT,
    ),
)


def translate(error: psycopg2.Error, *, where: str) -> SourceError:
    """Return the SourceError for an error of a statement that calls the function. An error of the exported query itself
    is translated as in any other read."""
    if isinstance(error, errors.InvalidSchemaName | errors.UndefinedFunction) and _OURS.search(str(error)):
        return SourceError(
            f"the database has no function aws_s3.query_export_to_s3, which export: aurora needs (SQLSTATE"
            f" {error.pgcode})",
            where=where,
            hint=f"run CREATE EXTENSION aws_s3 CASCADE as rds_superuser in this database; {_SETUP}. Other servers than"
            " Aurora and RDS lack the extension: set export: client in tables.yaml",
            kind=Kind.USER,
        )
    message = error.diag.message_primary or ""
    if isinstance(error, errors.InsufficientPrivilege) and _OURS.search(message):
        return SourceError(f"{message} (SQLSTATE {error.pgcode})", where=where, hint=_GRANTS)
    said = " ".join(part for part in (message, error.diag.message_detail, error.diag.message_hint) if part)
    if "Amazon S3" in message or "credentials stored with the database" in message:
        for pattern, hint, kind in _ANSWERS:
            if re.search(pattern, said, re.IGNORECASE):
                return SourceError(f"{said} (SQLSTATE {error.pgcode})", where=where, hint=hint, kind=kind)
        hint = "S3 refused or failed, and no row is lost; run again"
        return SourceError(f"{said} (SQLSTATE {error.pgcode})", where=where, hint=hint, kind=Kind.TRANSIENT)
    return server_errors.translate(error, where=where)

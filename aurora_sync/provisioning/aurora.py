"""Generate what ``export: aurora`` needs: an IAM role by which the cluster writes to the stage, the extension aws_s3,
and grants on its functions."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from typing import Any

from psycopg2.extensions import parse_dsn

from aurora_sync.warehouse.ddl import identifier

# The name of the role and of its policy.
NAME = "aurora-sync-export"
_CLUSTER = re.compile(r"(?P<cluster>[a-z0-9-]+)\.cluster-[a-z0-9-]+\.(?P<region>[a-z0-9-]+)\.rds\.amazonaws\.com.*")


@dataclass(frozen=True)
class AuroraSetup:
    """The parts of the setup. Values that neither settings nor the address of the cluster show stand in angle
    brackets."""

    policy: dict[str, Any]  # what the role may do
    trust: dict[str, Any]  # who may assume the role
    commands: tuple[str, ...]  # of the AWS CLI
    statements: tuple[str, ...]  # in the database, as a member of rds_superuser
    database: str

    def script(self) -> str:
        """Return commands and statements as a script for a shell with the AWS CLI and psql."""
        return "\n".join(
            (
                "# The IAM role by which the cluster writes to the bucket, which must be in the same region.",
                *self.commands,
                "",
                f"# The extension and the grants, as a member of rds_superuser in the database {self.database}.",
                "psql \"$AURORA_OWNER_DSN\" -v ON_ERROR_STOP=1 <<'SQL'",
                *(f"{statement};" for statement in self.statements),
                "SQL",
                "",
                "# Then set export: aurora in tables.yaml, and let the server write one row to the stage:",
                "aurora-sync check",
            )
        )


def aurora_setup(dsn: str, stage_url: str, kms_key: str = "") -> AuroraSetup:
    """Return the setup for the login and cluster of ``dsn`` and for a stage ``s3://bucket/prefix``, without a slash at
    the end."""
    parts = parse_dsn(dsn)
    found = _CLUSTER.fullmatch(parts.get("host", ""))
    cluster, region = (found["cluster"], found["region"]) if found else ("<cluster>", "<region>")
    partition = "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"
    policy, trust = _policy(partition, stage_url, kms_key), _trust(partition, region, cluster)
    role = f"arn:{partition}:iam::<account>:role/{NAME}"
    commands = (
        f"aws iam create-role --role-name {NAME} --assume-role-policy-document {shlex.quote(json.dumps(trust))}",
        f"aws iam put-role-policy --role-name {NAME} --policy-name {NAME} --policy-document"
        f" {shlex.quote(json.dumps(policy))}",
        f"aws rds add-role-to-db-cluster --db-cluster-identifier {shlex.quote(cluster)} --feature-name s3Export"
        f" --role-arn {shlex.quote(role)}",
    )
    login = identifier(parts.get("user", "<login of AURORA_DSN>"))
    statements = (
        "CREATE EXTENSION IF NOT EXISTS aws_s3 CASCADE",
        f"GRANT USAGE ON SCHEMA aws_s3, aws_commons TO {login}",
        f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA aws_s3, aws_commons TO {login}",
    )
    return AuroraSetup(policy, trust, commands, statements, str(parts.get("dbname", "<database>")))


def _policy(partition: str, stage_url: str, kms_key: str) -> dict[str, Any]:
    place = stage_url.removeprefix("s3://")
    objects = f"arn:{partition}:s3:::{place}/*"
    allowed = [{"Effect": "Allow", "Action": ["s3:PutObject", "s3:AbortMultipartUpload"], "Resource": objects}]
    if kms_key:
        allowed.append({"Effect": "Allow", "Action": ["kms:GenerateDataKey", "kms:Decrypt"], "Resource": kms_key})
    return {"Version": "2012-10-17", "Statement": allowed}


def _trust(partition: str, region: str, cluster: str) -> dict[str, Any]:
    """Only this cluster may assume the role, on behalf of this account."""
    arn = f"arn:{partition}:rds:{region}:<account>:cluster:{cluster}"
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "rds.amazonaws.com"},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"aws:SourceAccount": "<account>", "aws:SourceArn": arn}},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}

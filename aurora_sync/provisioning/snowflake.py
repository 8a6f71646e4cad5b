"""Generate the SQL that prepares a Snowflake account: role, user, warehouse, database, stage, and the grants."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from aurora_sync.config.backends.snowflake import SnowflakeSettings
from aurora_sync.warehouse.ddl import identifier, literal
from aurora_sync.warehouse.snowflake_grants import DEFAULT_ROLE, Grants, quoted_name

_OPENSSL = (
    "openssl genrsa 2048 | openssl pkcs8 -topk8 -nocrypt -out key.p8",
    "openssl rsa -in key.p8 -pubout   # prints the public key",
)


@dataclass(frozen=True)
class Part:
    """Statements with the reason for them, as comments. ``optional`` statements are printed as comments too."""

    comments: tuple[str, ...]
    statements: tuple[str, ...]
    optional: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        yield from (f"-- {comment}" for comment in self.comments)
        yield from (f"{statement};" for statement in self.statements)
        yield from (f"-- {statement};" for statement in self.optional)


def setup_statements(
    settings: SnowflakeSettings,
    stage_url: str,
    log_schema: str,
    schemas: Iterable[str],
    public_key: str | None = None,
) -> list[Part]:
    """Return the parts, in the order in which they must run. ``schemas`` are those of the targets. All statements can
    run again: they change nothing that exists."""
    grants = Grants(settings, stage_url)
    own = sorted({log_schema, *schemas})
    return [
        Part(
            ("Run these statements as ACCOUNTADMIN, because of the storage integration. They can run again.",),
            (f"CREATE ROLE IF NOT EXISTS {grants.quoted_role}",),
        ),
        _user(settings, grants, public_key),
        Part(
            ("The virtual warehouse. A start is billed for 60 s at least.",),
            (
                f"CREATE WAREHOUSE IF NOT EXISTS {grants.warehouse} WAREHOUSE_SIZE = XSMALL AUTO_SUSPEND = 60"
                " INITIALLY_SUSPENDED = TRUE",
                grants.on_warehouse(),
            ),
        ),
        Part(
            ("The database, the schema of the sync log, and the schemas of the targets.",),
            (
                f"CREATE DATABASE IF NOT EXISTS {grants.database}",
                grants.on_database(),
                *(statement for name in own for statement in (grants.create_schema(name), grants.on_schema(name))),
            ),
        ),
        *_stages(settings, grants),
        _others(grants, sorted(schemas)),
        Part(
            (
                "Not needed for a sync. Remove the dashes where `aurora-sync cost` should print credits of each table:",
                "the role may then read the query history of the whole account.",
            ),
            (),
            (grants.on_history(),),
        ),
    ]


def _user(settings: SnowflakeSettings, grants: Grants, public_key: str | None) -> Part:
    user = quoted_name(settings.user or DEFAULT_ROLE)
    granted = f"GRANT ROLE {grants.quoted_role} TO USER {user}"
    login, authenticator = settings.login, str(settings.login.get("authenticator", "")).upper()
    if authenticator == "EXTERNALBROWSER":
        return Part(("The person logs in by browser, with a user that exists.",), (granted,))
    service = (
        f"CREATE USER IF NOT EXISTS {user} TYPE = SERVICE DEFAULT_ROLE = {grants.quoted_role}"
        f" DEFAULT_WAREHOUSE = {grants.warehouse}"
    )
    if authenticator == "WORKLOAD_IDENTITY":
        identity = " WORKLOAD_IDENTITY = (TYPE = AWS ARN = 'arn:aws:iam::<account>:role/<role of the program>')"
        return Part(("The user logs in by the IAM role that the program runs under.",), (service + identity, granted))
    if authenticator == "PROGRAMMATIC_ACCESS_TOKEN":
        # Snowflake accepts the token of a service user only under a network policy.
        policy = identifier(f"{DEFAULT_ROLE}_NETWORK")
        token = f"ALTER USER {user} ADD PROGRAMMATIC ACCESS TOKEN {DEFAULT_ROLE} ROLE_RESTRICTION = "
        return Part(
            ("The user logs in by a programmatic access token, which needs a network policy.",),
            (
                service,
                granted,
                f"CREATE NETWORK POLICY IF NOT EXISTS {policy} ALLOWED_IP_LIST = ('<address of the program>')",
                f"ALTER USER {user} SET NETWORK_POLICY = {policy}",
                # The answer holds the token.
                token + literal(grants.quoted_role.strip('"')),
            ),
        )
    if "OAUTH" in authenticator:
        reason = "The user logs in by OAuth: the security integration maps the client to the LOGIN_NAME of the user."
        return Part((reason,), (service, granted))
    comments = ["The user logs in by a key pair."]
    if public_key is None:
        comments += ["Create the keys, and put the text between the first and the last line of the public key here:"]
        comments += [f"  {command}" for command in _OPENSSL]
    if "connection_name" in login:
        comments.append("The user is the one of the connection in connections.toml.")
    key = f"RSA_PUBLIC_KEY = {literal(public_key or '<public key>')}"
    return Part((*comments, f"For a user that exists: ALTER USER {user} SET {key};"), (f"{service} {key}", granted))


def _stages(settings: SnowflakeSettings, grants: Grants) -> Iterator[Part]:
    integration = quoted_name(DEFAULT_ROLE)
    schema, _ = grants.stage(settings.stage)
    yield Part(
        (
            "The external stage. The IAM role may read the bucket (s3:GetObject, s3:GetObjectVersion, s3:ListBucket,",
            "s3:GetBucketLocation). Its trust policy names STORAGE_AWS_IAM_USER_ARN and STORAGE_AWS_EXTERNAL_ID, which",
            "DESC INTEGRATION prints.",
        ),
        (
            f"CREATE STORAGE INTEGRATION IF NOT EXISTS {integration} TYPE = EXTERNAL_STAGE STORAGE_PROVIDER = 'S3'"
            " ENABLED = TRUE STORAGE_AWS_ROLE_ARN = 'arn:aws:iam::<account>:role/<role that may read the bucket>'"
            f" STORAGE_ALLOWED_LOCATIONS = ({literal(grants.stage_url)})",
            f"DESC INTEGRATION {integration}",
            f"CREATE SCHEMA IF NOT EXISTS {schema}",
            grants.create_stage(),
            *grants.on_stage(settings.stage),
        ),
    )
    if settings.dms_stage:
        _, stage = grants.stage(settings.dms_stage)
        yield Part(
            ("The stage of the DMS task. Its URL must be in STORAGE_ALLOWED_LOCATIONS as well.",),
            grants.on_stage(settings.dms_stage),
            (
                f"CREATE STAGE IF NOT EXISTS {stage} URL = 's3://<bucket>/<folder of the task>/'"
                f" STORAGE_INTEGRATION = {integration}",
            ),
        )


def _others(grants: Grants, schemas: list[str]) -> Part:
    """Return what some accounts need in addition. The role owns the tables that it creates, so it needs no grant on
    them."""
    readers = (
        f"GRANT SELECT ON FUTURE TABLES IN SCHEMA {grants.schema(name)} TO ROLE <role of the readers>"
        for name in schemas
    )
    return Part(
        (
            "Not needed for a sync. Remove the dashes where readers should see new tables, where `check` should find",
            "policies of targets that another role owns, or where a future grant moves the ownership of new tables.",
        ),
        (),
        (
            *readers,
            f"GRANT APPLY MASKING POLICY ON ACCOUNT {grants.to_role}",
            f"GRANT APPLY ROW ACCESS POLICY ON ACCOUNT {grants.to_role}",
            *map(grants.keep_ownership, schemas),
        ),
    )


def setup_script(parts: Iterable[Part]) -> str:
    """Return the parts as plain SQL, for `snow sql --stdin` or a worksheet."""
    return "\n\n".join("\n".join(part.lines()) for part in parts)

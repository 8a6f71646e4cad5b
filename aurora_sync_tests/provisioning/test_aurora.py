"""The IAM role, the extension and the grants that ``aurora-sync setup aurora`` prints."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from aurora_sync.cli.main import main
from aurora_sync.provisioning.aurora import AuroraSetup, aurora_setup

PAGE = Path(__file__).parents[2] / "docs/aurora-export.md"
HOST = "shop.cluster-abc123.eu-central-1.rds.amazonaws.com"
ENVIRON = {
    "AURORA_DSN": f"host={HOST} dbname=app user=aurora_sync",
    "AURORA_SYNC_STAGE": "s3://my-bucket/aurora-sync",
    "AURORA_SYNC_WAREHOUSE": "duckdb:w.duckdb",
}
KEY = "arn:aws:kms:eu-central-1:123456789012:key/1"


def setup(host: str = HOST, stage: str = "s3://my-bucket/aurora-sync", key: str = "") -> AuroraSetup:
    return aurora_setup(f"postgresql://aurora_sync:secret@{host}/app", stage, key)


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)

    def run(*options: str) -> str:
        assert main(["setup", "aurora", *options]) == 0
        return capsys.readouterr().out

    return run


def test_page_shows_what_the_command_prints(printed: Any) -> None:
    _, _, rest = PAGE.read_text(encoding="utf-8").partition("<!-- aurora -->\n```sh\n")
    shown, _, _ = rest.partition("\n```\n")
    assert printed().strip() == shown


def test_json_has_documents_commands_and_statements(printed: Any) -> None:
    document = json.loads(printed("--json"))
    assert document["policy"]["Statement"][0]["Resource"] == "arn:aws:s3:::my-bucket/aurora-sync/*"
    assert len(document["commands"]) == 3
    assert document["statements"][0] == "CREATE EXTENSION IF NOT EXISTS aws_s3 CASCADE"


def test_cluster_and_region_come_from_the_address() -> None:
    conditions = setup().trust["Statement"][0]["Condition"]["StringEquals"]
    assert conditions["aws:SourceArn"] == "arn:aws:rds:eu-central-1:<account>:cluster:shop"
    assert "--db-cluster-identifier shop " in setup().commands[2]
    assert "'<cluster>'" in setup("10.0.0.1").commands[2]


def test_other_partitions_have_their_own_names() -> None:
    china = setup("shop.cluster-abc.cn-north-1.rds.amazonaws.com.cn")
    assert china.policy["Statement"][0]["Resource"].startswith("arn:aws-cn:s3:::")
    assert "arn:aws-cn:iam::" in china.commands[2]


def test_key_adds_its_permissions() -> None:
    assert len(setup().policy["Statement"]) == 1
    assert setup(key=KEY).policy["Statement"][1] == {
        "Effect": "Allow",
        "Action": ["kms:GenerateDataKey", "kms:Decrypt"],
        "Resource": KEY,
    }


def test_secrets_are_not_printed() -> None:
    assert "secret" not in setup().script()


def test_script_is_one_for_a_shell_and_the_documents_arrive_whole(tmp_path: Path) -> None:
    """Programs of the names aws, psql and aurora-sync write down their arguments and input."""
    for name in ("aws", "psql", "aurora-sync"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" {name} "$@" >> "$LOG"\n[ {name} != psql ] || cat >> "$LOG"\n')
        program.chmod(0o755)
    log, found = tmp_path / "log", setup(stage="s3://my-bucket/it's a prefix")
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "LOG": str(log)}
    shell = shutil.which("sh")
    assert shell
    subprocess.run([shell, "-e"], input=found.script(), text=True, check=True, env=environment)
    said = log.read_text(encoding="utf-8").split("\n")
    assert json.dumps(found.policy) in said
    assert json.dumps(found.trust) in said
    assert 'GRANT USAGE ON SCHEMA aws_s3, aws_commons TO "aurora_sync";' in said


def test_statements_run_and_let_the_login_export(dsn: str, aurora_functions: Any) -> None:
    """The extension exists only on Aurora and RDS; the grants run on its imitation."""
    from contextlib import closing

    import psycopg2

    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE ROLE setup_reader")
        for statement in aurora_setup("host=h user=setup_reader dbname=app", "s3://b", "").statements[1:]:
            cursor.execute(statement)
        cursor.execute(
            "SELECT has_function_privilege('setup_reader', p.oid, 'EXECUTE'),"
            " has_schema_privilege('setup_reader', p.pronamespace, 'USAGE')"
            " FROM pg_proc p WHERE proname = 'query_export_to_s3'"
        )
        assert cursor.fetchall() == [(True, True)] * 2
        connection.rollback()

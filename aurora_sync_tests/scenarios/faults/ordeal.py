"""A table that was synced once and then changed, and the assertions on every fault in its next run."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import pytest

from aurora_sync.cli.main import main
from aurora_sync.config.settings import Settings
from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import sync
from aurora_sync.engine.places import Places
from aurora_sync.engine.retries import ATTEMPTS
from aurora_sync.errors import AuroraSyncError, ConfigError, Kind
from aurora_sync.model.receipt import Receipt
from aurora_sync.warehouse.ddl import target_name
from aurora_sync_tests.scenarios.world import World

Fault = Callable[[], AbstractContextManager[object]]

# The maximal length of an error text.
LONGEST_TEXT = 900


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Replace settings of the environment."""
    with mock.patch.dict(os.environ, variables):
        yield


@dataclass
class Ordeal:
    """A table under faults. ``world`` connects directly, past any proxy; a run under test takes its places from the
    environment, as the command line does."""

    world: World
    capsys: pytest.CaptureFixture[str]
    table: TableConfig
    drops_staging: bool = True  # else the next run drops the staging table
    empty_stage: bool = True  # a failure before everything is staged leaves no objects; a complete attempt stays

    def begin(self, rows: int = 100, width: int = 10) -> None:
        """Sync once; then change every row, delete a few, and insert new ones."""
        name = self.table.table_name
        self.world.execute(
            f"CREATE TABLE {name} (id int PRIMARY KEY, v text)",
            f"INSERT INTO {name} SELECT n, repeat('x', {width}) FROM generate_series(1, {rows}) n",
        )
        self.world.sync(self.table)
        self.change()

    def change(self) -> None:
        name = self.table.table_name
        self.world.execute(
            f"UPDATE {name} SET v = v || '!'",
            f"INSERT INTO {name} SELECT max(id) + 1, 'new' FROM {name}",
        )

    def run(self) -> Receipt:
        return sync.run(self.table, Places.from_settings(Settings.from_environment(os.environ)))

    def meet(self, fault: Fault, error: type[AuroraSyncError], kind: Kind, *words: str) -> AuroraSyncError:
        """Run with the fault, by a call and by the command line. Assert that the error is clear and nothing has
        changed, and that the next run without the fault succeeds."""
        before = self.state()
        staged = set(self.world.objects())
        with fault():
            with pytest.raises(AuroraSyncError) as raised:
                self.run()
            assert type(raised.value) is error, repr(raised.value)
            self._assert_clear(raised.value, kind, words)
            self._assert_command_tells(raised.value)
        assert self.state() == before
        if self.empty_stage:
            assert set(self.world.objects()) == staged
        store = self.world.places.stage.store
        assert list(store.uploads(store.prefix)) == []
        self.recover()
        return raised.value

    def recover(self) -> None:
        """Assert that the next run without a fault applies everything."""
        self.world.sync(self.table)
        self.assert_equal()
        self.world.assert_verified(self.table)
        assert self.world.staging_tables() == []

    def assert_equal(self) -> None:
        self.world.assert_equal(self.table)

    def state(self) -> dict[str, Any]:
        """Return the whole target, the whole sync log, and the remains of attempts."""
        log = f'SELECT * FROM "{self.world.places.log_schema}"."SYNC_LOG" ORDER BY "APPLIED_AT"'
        return {
            "target": Counter(self.world.query(f"SELECT * FROM {target_name(self.table).sql}")),
            "log": self.world.query(log),
            "staging": self.world.staging_tables() if self.drops_staging else [],
        }

    def _assert_clear(self, error: AuroraSyncError, kind: Kind, words: tuple[str, ...]) -> None:
        text = str(error)
        print(text)
        assert error.kind is kind, text
        assert "\n" not in text, text
        assert len(text) < LONGEST_TEXT, text
        assert error.where, text
        assert error.hint or isinstance(error, ConfigError), text  # a ConfigError's problems contain the hint
        missing = [word for word in words if word not in text]
        assert not missing, (missing, text)
        self._assert_no_secret(text)

    def _assert_command_tells(self, error: AuroraSyncError) -> None:
        self.capsys.readouterr()
        assert main(["sync"]) == 1
        told = self.capsys.readouterr()
        assert told.out == ""
        assert self.table.qualified_name in told.err or error.where in told.err, told.err
        if error.kind.retry:
            error.lasts()  # the command saw it in each of its attempts
        assert error.hint in told.err, told.err
        assert (f"tried {ATTEMPTS} times" in told.err) == error.kind.retry, told.err
        assert "Traceback" not in told.err
        self._assert_no_secret(told.err)

    def _assert_no_secret(self, text: str) -> None:
        secrets = [urlsplit(self.world.dsn).password, os.environ.get("AWS_SECRET_ACCESS_KEY")]
        assert not [secret for secret in secrets if secret and secret in text], text

"""One trial: runs of one strategy between random moves, where each run's certificate is checked against its target.

This module compares source and target itself, row by row as text. A certificate is false when the run claims a kind of
change and the target lacks such a change. A target that a snapshot read is compared with the source as of that
snapshot; the target of a stream with the source as it is now, if nothing was written during the run.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from unittest import mock

import psycopg2

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import AuroraSyncError
from aurora_sync.model.certificate import Level
from aurora_sync.model.fences import SlotFence
from aurora_sync.model.names import fold
from aurora_sync.source import identity_token
from aurora_sync.source.reading import Reading
from aurora_sync.stage.writer import Stage
from aurora_sync.strategies import clock
from aurora_sync.strategies import dms as dms_strategy
from aurora_sync.warehouse import apply as applying
from aurora_sync.warehouse import prepare, resume, sync_log
from aurora_sync.warehouse.ddl import existing_columns, identifier, target_name
from aurora_sync.warehouse.duckdb import DuckDBWarehouse
from aurora_sync_tests.scenarios.catalogue_moves import moves
from aurora_sync_tests.scenarios.catalogue_moves.moves import Move
from aurora_sync_tests.scenarios.catalogue_moves.place import Place, Refused
from aurora_sync_tests.scenarios.catalogue_moves.subject import BOUNDED_BY_OTHERS, PUBLISHED, STREAMS, Subject
from aurora_sync_tests.scenarios.random_writers.replicas import Difference
from aurora_sync_tests.scenarios.world import World

# Disables the minutes that a clock fence goes back by, which would cover a whole trial.
MARGIN = timedelta(milliseconds=50)

Rows = dict[tuple[str, ...], Counter[tuple[str | None, ...]]]  # by key


@dataclass
class Run:
    level: str  # level of the certificate, or "error"
    text: str
    false: str = ""  # the changes that it claimed but does not have
    moves: tuple[str, ...] = ()


@dataclass
class Trial:
    strategy: str
    seed: int
    partitioned: bool
    runs: list[Run] = field(default_factory=list)
    moves: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    history: list[str] = field(default_factory=list)

    @property
    def false(self) -> list[Run]:
        return [run for run in self.runs if run.false]

    def count(self, level: str) -> int:
        return sum(run.level == level for run in self.runs)


class _Going:
    """The moves that have begun but not ended. Each is a generator that stops at the runs."""

    def __init__(self, place: Place, done: Trial, only: tuple[Move, ...], fitting: Sequence[Move]) -> None:
        self.place = place
        self.moves: list[tuple[str, Iterator[None]]] = []
        # A run reads the state of its target before its snapshot, and an idle run does not read it again.
        self.of_source = [each for each in fitting if each not in moves.OF_TARGETS]
        self._done = done
        self._only = only
        self._turn = iter(only)
        self._fitting = fitting

    def begin(self, among: Sequence[Move] | None = None) -> None:
        """Begin one more move: the next of ``only``, a random one of ``among``, or a random one of all that fit."""
        chosen = next(self._turn, None) if self._only else self.place.dice.choice(among or self._fitting)
        if chosen:
            name = chosen.__name__
            self.place.done.append(f"-- {name}")
            self._done.moves[name] += 1
            self.moves.append((name, chosen(self.place)))
            self._step(len(self.moves) - 1)

    def step_all(self) -> None:
        """Continue each move to its next run or its end."""
        for at in reversed(range(len(self.moves))):
            self._step(at)

    def between(self) -> None:
        """Continue and begin moves, and write, between two runs."""
        self.step_all()
        for _ in range(1 if self._only else self.place.dice.choice([1, 1, 2])):
            self.begin()
        _written(self.place)

    def _step(self, at: int) -> None:
        name, steps = self.moves[at]
        self.place.done.append(f"--   {name}")
        try:
            next(steps)
        except StopIteration:
            self.moves.pop(at)
        except Refused:
            self._done.refused += 1
            self.moves.pop(at)


def trial(
    world: World,
    strategy: str,
    seed: int,
    *,
    runs: int = 7,
    only: tuple[Move, ...] = (),
    partitioned: bool | None = None,
    reduced: bool = False,
) -> Trial:
    """Run one trial. ``only``: these moves in order; else random ones, some of them while a run reads. ``reduced``:
    with weaker observations (:func:`_reduced`)."""
    dice = random.Random(seed)
    drawn = dice.random() < 0.5
    place = Place(world, dice, partitioned=drawn if partitioned is None else partitioned)
    done = Trial(strategy, seed, place.partitioned)
    subject = Subject(place, strategy)
    going = _Going(place, done, only, grammar(strategy, partitioned=place.partitioned, often=3))
    world.warehouse.metered = False
    with mock.patch.object(clock, "MARGIN", MARGIN), ExitStack() as end:
        if reduced:
            end.enter_context(_reduced())
        end.callback(subject.close)
        end.callback(going.moves.clear)  # a generator that is dropped closes its connections
        place.begin()
        subject.prepare()
        done.history = place.done
        for number in range(runs):
            if number == 1:
                place.write(4)  # only a later run can pass a fence
            elif number > 1:
                going.between()
            at_once = _at_once(going) if number > 1 and not only and dice.random() < 0.3 else None
            names = tuple(name for name, _ in going.moves)
            done.runs.append(_checked(subject, at_once, names))
            if done.runs[-1].level == "error":
                with suppress(AuroraSyncError, psycopg2.Error, Refused):
                    if place.world.execute("SELECT to_regclass('t')") == [(None,)]:
                        place.make()
                    subject.prepare()
        # Finish the moves that have begun.
        for _ in range(3):
            going.step_all()
        if place.world.execute("SELECT to_regclass('t')") != [(None,)]:
            done.runs.append(_checked(subject, None, ()))
    return done


def grammar(strategy: str, *, partitioned: bool, often: int = 1) -> list[Move]:
    """Return the moves that apply, with those of partitions and streams repeated ``often``."""
    found = [*moves.ANY, *moves.INNOCENT, *moves.OF_TARGETS]
    if not partitioned:
        found += moves.OF_PLAIN_TABLES
    if partitioned:
        # The walsender of PostgreSQL 18 crashes with a segmentation fault when it decodes writes to a partition whose
        # detach waits.
        ended = {moves.detached_concurrently} if strategy in STREAMS else set()
        found += [move for move in moves.OF_PARTITIONS if move not in ended] * often
    if strategy in PUBLISHED:
        found += moves.OF_STREAMS * often
    if strategy == "debezium":
        found += moves.OF_CONNECTORS * often
    return found


def _written(place: Place) -> None:
    with suppress(Refused):
        place.write(place.dice.randint(0, 3))


@dataclass
class _AtOnce:
    """Moves and writes between the steps of a run."""

    before: Callable[[], None]
    after: Callable[[], None]
    staged: Callable[[], None]
    committed: Callable[[], None]
    edits: bool  # edits the target after the commit, so the result of the run is no longer there


def _at_once(going: _Going) -> _AtOnce:
    place = going.place
    around = ["before the snapshot", "behind the snapshot", "both"]
    moment = place.dice.choice([*around, *around, "before the merge", "behind the commit"])

    def before() -> None:
        if moment in ("before the snapshot", "both"):
            place.done.append("-- in a run, before its snapshot:")
            going.begin(going.of_source)

    def after() -> None:
        if moment in ("behind the snapshot", "both"):
            place.done.append("-- in a run, behind its snapshot:")
            _written(place)
            if place.slot:
                going.begin()

    def edit(when: str) -> Callable[[], None]:
        def edited() -> None:
            if moment == when:
                place.done.append(f"-- in a run, {when}:")
                going.begin(moves.OF_TARGETS)

        return edited

    return _AtOnce(before, after, edit("before the merge"), edit("behind the commit"), moment == "behind the commit")


def _checked(subject: Subject, at_once: _AtOnce | None, going: tuple[str, ...]) -> Run:
    """Run once, and check the certificate against the target."""
    world = subject.world
    seen: list[tuple[list[str], Rows]] = []
    subject.place.done.append("-- RUN")
    with _observed(at_once, seen, subject.excluded):
        try:
            receipt = subject.run()
        except AuroraSyncError as error:
            subject.place.done.append(f"-- error: {error}")
            return Run("error", str(error), moves=going)
    certificate = receipt.certificate
    claims = certificate.level is Level.CERTIFIED
    claims = claims or (subject.strategy in BOUNDED_BY_OTHERS and certificate.level is Level.BOUNDED)
    subject.place.done.append(f"-- {receipt.method}, {certificate.level.value}: {', '.join(certificate.changes)}")
    truth = seen[-1]
    if at_once and at_once.edits:
        return Run(certificate.level.value, certificate.text, moves=going)
    if subject.strategy in STREAMS:
        if at_once or (subject.lags and receipt.method.startswith(("files", "topic"))):
            return Run(certificate.level.value, certificate.text, moves=going)
        truth = _source(world, subject.excluded)
    found = _compare(_target(world, subject.config), truth)
    wrong = found.of(*certificate.changes) if claims else []
    false = f"{found.missing=} {found.stale=} {found.ghosts=}" if wrong else ""
    return Run(certificate.level.value, certificate.text, false, going)


@contextmanager
def _observed(at_once: _AtOnce | None, seen: list[tuple[list[str], Rows]], excluded: frozenset[str]) -> Iterator[None]:
    """Record what each snapshot of a run sees, and run the moves before and after it."""
    observe, commit, drop_staging = Reading.observe, Stage.commit, prepare.drop_staging
    waiting = {"snapshot", "merge", "end"} if at_once else set()  # moments that are still to come

    def comes(moment: str) -> _AtOnce | None:
        now = at_once if moment in waiting else None
        waiting.discard(moment)
        return now

    def observed(self: Reading, *arguments: Any, **keywords: Any) -> Any:
        now = comes("snapshot")
        if now:
            now.before()
        at = observe(self, *arguments, **keywords)
        seen.append(_rows_of(self._connection, excluded))
        if now:
            now.after()
        return at

    def committed(self: Stage, *arguments: Any, **keywords: Any) -> Any:
        if now := comes("merge"):
            now.staged()
        return commit(self, *arguments, **keywords)

    def dropped(*arguments: Any, **keywords: Any) -> Any:
        if now := comes("end"):
            now.committed()
        return drop_staging(*arguments, **keywords)

    with (
        mock.patch.object(Reading, "observe", observed),
        mock.patch.object(Stage, "commit", committed),
        mock.patch.object(applying, "drop_staging", dropped),
    ):
        yield


@contextmanager
def _reduced() -> Iterator[None]:
    """Reduce the observations to sets of oids and file numbers, and the number of rows of the target. They do not show
    what is changed and set back between two runs. Canaries are disabled, because they show some of it by chance."""
    observe = Reading.observe

    def observed(self: Reading, *arguments: Any, **keywords: Any) -> Any:
        at = observe(self, *arguments, **keywords)
        token = replace(at.token, columns="", types=None, attached=None, labels={})
        fence = at.fence
        if isinstance(fence, SlotFence):
            fence = replace(fence, member=fence.member.partition(":")[0], all_tables=False)
        return replace(at, token=token, fence=fence)

    def difference(entry: Any, columns: Any, now: sync_log.Count) -> str:
        return "" if entry.target_rows == now.present else "another number of rows"

    pending = " WHERE coalesce(to_jsonb(i) ->> 'inhdetachpending', 'false') = 'false'"
    assert pending in identity_token._MEMBERS
    with ExitStack() as end:
        for owner, name, value in (
            (Reading, "observe", observed),
            (Reading, "recall", lambda *_: ()),
            (identity_token, "_MEMBERS", identity_token._MEMBERS.replace(pending, "")),
            (resume, "difference", difference),
            (resume, "edited", lambda *_: ""),
            (dms_strategy, "_GO_ON", dms_strategy._GO_ON | {"files replaced"}),
        ):
            end.enter_context(mock.patch.object(owner, name, value))
        yield


def _source(world: World, excluded: frozenset[str]) -> tuple[list[str], Rows]:
    with world.session() as connection:
        return _rows_of(connection, excluded)


def _rows_of(connection: Any, excluded: frozenset[str]) -> tuple[list[str], Rows]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM public.t LIMIT 0")
        names = [column.name for column in cursor.description if column.name not in excluded]
        cursor.execute(f"SELECT id::text, part::text, {', '.join(f'{_quoted(n)}::text' for n in names)} FROM public.t")
        return [n for n in names if n != "updated_at"], _keyed(cursor.fetchall(), names)


def _keyed(rows: list[tuple[Any, ...]], names: list[str]) -> Rows:
    """Remove the times, which the engines print differently."""
    places = [2 + place for place, name in enumerate(names) if name != "updated_at"]
    found: Rows = {}
    for row in rows:
        found.setdefault(row[:2], Counter())[tuple(row[place] for place in places)] += 1
    return found


def _target(world: World, table: TableConfig) -> Callable[[list[str]], Rows]:
    """Return a function that reads the target's rows in columns of these names, with a placeholder for a missing
    column."""

    def held(names: list[str]) -> Rows:
        target = target_name(table)
        with DuckDBWarehouse(world.warehouse_path).session() as session:
            there = existing_columns(session, target)
            columns = [f"CAST({identifier(fold(n))} AS VARCHAR)" if fold(n) in there else "'no column'" for n in names]
            rows = session.query(
                f'SELECT CAST("ID" AS VARCHAR), CAST("PART" AS VARCHAR), {", ".join(columns)} FROM {target.sql}'
            )
        return _keyed(rows, names)

    return held


def _compare(held: Callable[[list[str]], Rows], truth: tuple[list[str], Rows]) -> Difference:
    names, source = truth
    target = held(names)
    name = {key: "/".join(key) for key in source.keys() | target.keys()}
    return Difference(
        missing=[name[key] for key in source if key not in target],
        stale=[
            f"{name[k]} {list(source[k])} {list(target[k])}" for k in source if k in target and source[k] != target[k]
        ],
        ghosts=[name[key] for key in target if key not in source],
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'

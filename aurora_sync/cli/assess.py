"""``aurora-sync assess``: which strategy suits each table of the source, why, and the tables.yaml of it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection
from pydantic import ValidationError

from aurora_sync.advisor import proposal
from aurora_sync.advisor.cost import human_bytes
from aurora_sync.advisor.evidence import Evidence, collect
from aurora_sync.advisor.notes import notes
from aurora_sync.advisor.page import as_html
from aurora_sync.advisor.prove import Proof, may_prove, prove
from aurora_sync.advisor.recommend import Recommendation, recommend
from aurora_sync.config.loader import expand, load
from aurora_sync.config.settings import source_of
from aurora_sync.config.tables import Advisor
from aurora_sync.errors import ConfigError, SourceError
from aurora_sync.model.foreign_text import printable
from aurora_sync.source import catalogue
from aurora_sync.source.connection import connect, translate

# How many tables are explained without being asked for.
_EXPLAINED = 3


def add_to(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="names or globs; default: all of the database")
    parser.add_argument(
        "--no-replication", dest="replication", action="store_false", default=None, help="no replication slots"
    )
    parser.add_argument("--no-ddl", dest="ddl", action="store_false", default=None, help="no triggers on tables")
    parser.add_argument(
        "--deletes-at-once", action="store_true", default=None, help="deletes must come with the next run"
    )
    parser.add_argument("--freshness", metavar="TIME", help="how often a table is synced: 15m, 1h (default), 1d")
    parser.add_argument("--max-read-per-day", metavar="SIZE", help="of one table, at the source: 500MB, 50GB")
    parser.add_argument("--prove", action="store_true", help="scan the tables for rows whose timestamp lies")
    parser.add_argument("--why", action="store_true", help="every strategy of every table, with the reasons")
    parser.add_argument(
        "--write", metavar="FILE", type=Path, help="write a tables.yaml; where it exists, show in what it differs"
    )
    parser.add_argument("--html", metavar="FILE", type=Path, help="write one page for a browser")


def assess(arguments: argparse.Namespace) -> int:
    """Raises ConfigError and SourceError. Reads AURORA_DSN alone of the environment."""
    path = arguments.write or Path(os.environ.get("AURORA_SYNC_TABLES") or "tables.yaml")
    written = load(path) if path.exists() else None
    limits = _limits(arguments, written.advisor if written else Advisor())
    with connect(source_of(os.environ)) as connection:
        existing = catalogue.existing(connection)
        if not existing:
            raise ConfigError("the database has no table that this role may see", hint="GRANT USAGE ON SCHEMA to it")
        wanted = set(catalogue.matching(existing, arguments.tables))
        configured = expand(written, existing) if written and arguments.write else None
        if configured and not arguments.tables:
            wanted |= {(table.schema_, table.table_name) for table in configured}  # a partition, too
        evidence = collect(connection, sorted(wanted))
        found = recommend(evidence, limits)
        proofs, unproved = _proved(connection, found) if arguments.prove else ({}, False)
    remarks = {each.name: list(notes(each.table)) for each in found}
    said = list(_written_page(arguments, found, evidence, remarks, proofs))
    if configured is not None:
        lines = list(proposal.differences(configured, found, evidence, limits, existing))
        verdict = "it lacks or contradicts:" if lines else "it fits"
        said += [f"{arguments.write} is there already, and was not changed; {verdict}", *lines]
    elif arguments.write:
        said += _written(arguments.write, found, evidence, limits)
    if arguments.json:
        print(json.dumps(_document(evidence, found, remarks, proofs) | {"said": said}, indent=1, default=str))
    else:
        lines = [*_lines(arguments, evidence, found, remarks, proofs), *(["", *said] if said else [])]
        print("\n".join(map(printable, lines)))
    return 1 if unproved or any(proof.lies for each in proofs.values() for proof in each) else 0


def _limits(arguments: argparse.Namespace, known: Advisor) -> Advisor:
    """Those of tables.yaml, but for what the command line says."""
    names = ("replication", "ddl", "deletes_at_once", "freshness", "max_read_per_day")
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    try:
        return Advisor(**(known.model_dump() | given))
    except ValidationError as error:
        raise ConfigError(
            [f"--{str(d['loc'][0]).replace('_', '-')}: {d['msg'].partition(', ')[2]}" for d in error.errors()]
        ) from error


def _proved(connection: Connection, found: Sequence[Recommendation]) -> tuple[dict[str, list[Proof]], bool]:
    """The proofs of each table that has some, and whether a table could not be read, which is printed."""
    proofs: dict[str, list[Proof]] = {}
    failed = False
    for each in found:
        try:
            if of_table := list(_proofs(connection, each)):
                proofs[each.name] = of_table
        except psycopg2.Error as error:
            if connection.closed:
                raise
            failed = True
            print(f"error: {printable(str(translate(error, where=each.name)))}", file=sys.stderr, flush=True)
    return proofs, failed


def _proofs(connection: Connection, each: Recommendation) -> Iterator[Proof]:
    """Of every column that an option would go by."""
    table = each.table.table
    columns = {o.config.watermark_col for o in each.options if o.name == "timestamp"}
    for column in sorted(filter(None, columns)):
        if may_prove(table, column):
            yield prove(connection, table, column)


def _lines(
    arguments: argparse.Namespace,
    evidence: Evidence,
    found: Sequence[Recommendation],
    remarks: dict[str, list[str]],
    proofs: dict[str, list[Proof]],
) -> Iterator[str]:
    reader = ", a reader" if evidence.server.in_recovery else ""
    tables = "1 table" if len(found) == 1 else f"{len(found):,} tables"
    yield f"{evidence.database}: PostgreSQL {evidence.server.major}{reader}, {tables}"
    yield from (f"  {name}: {text}" for name, text in evidence.facts.items())
    yield ""
    yield from _matrix(found, evidence)
    for each in found:
        for proof in proofs.get(each.name, ()):
            yield from ("", f"{each.name}: {proof.text}")
            for liar in proof.examples:
                yield f"  {liar.place}: says {liar.says}, and was written after {liar.others}"
    if arguments.why or len(found) <= _EXPLAINED:
        for each in found:
            yield from _why(each, remarks[each.name])
    else:
        yield from ("", "`aurora-sync assess TABLE` explains one table, --why all of them")


def _matrix(found: Sequence[Recommendation], evidence: Evidence) -> Iterator[str]:
    unit = "/day" if evidence.days else ""
    head = ["table", "size", "rows", f"inserts{unit}", f"updates{unit}", f"deletes{unit}", "now"]
    rows = [[*head, "better, and what it needs"]]
    for each in found:
        table = each.table
        rates = [f"{rate:,.0f}" for rate in evidence.rates(table.activity)]
        sizes = [human_bytes(table.heap + table.toast), f"{table.rows:,}", *rates]
        rows.append([each.name, *sizes, *_choice(each)])
    widths = [max(len(row[place]) for row in rows) for place in range(len(head))]
    for row in rows:
        cells = [
            cell.rjust(width) if 0 < place < 6 else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        yield "  ".join([*cells, row[-1]]).rstrip()


def _choice(each: Recommendation) -> list[str]:
    now, best = each.now, each.best
    shown = f"{now.name} {now.config.watermark_col or ''}".strip() if now else "none"
    if now is None:
        return [shown, each.options[0].why if each.options else ""]
    return [shown, f"{best.name}: {'; '.join(best.needs)}" if best and best is not now else ""]


def _why(each: Recommendation, remarks: Iterable[str]) -> Iterator[str]:
    yield from ("", each.name)
    for option in each.options:
        points = "refused" if option.refused else f"{option.points} points"
        yield f"  {option.name}, {points}"
        yield from (
            f"    {'  no' if reason.points is None else f'{reason.points:+4}'}  {reason.text}"
            for reason in option.reasons
            if reason.points is None or not option.refused
        )
        if not option.refused:
            yield from (f"    needs {need}" for need in option.needs)
            yield f"    {option.sees}; {option.cost.text}"
    yield from (f"  note: {remark}" for remark in remarks)


def _document(
    evidence: Evidence,
    found: Sequence[Recommendation],
    remarks: dict[str, list[str]],
    proofs: dict[str, list[Proof]],
) -> dict[str, Any]:
    return {
        "database": evidence.database,
        "taken_at": evidence.taken_at.isoformat(),
        "server": vars(evidence.server),
        "statistics_since": evidence.since and evidence.since.isoformat(),
        "xids_per_day": evidence.xids_per_day,
        "days_to_wraparound": evidence.days_to_wraparound,
        "tables": [
            proposal.as_json(each, evidence, remarks[each.name])
            | {"proofs": [asdict(proof) for proof in proofs.get(each.name, ())]}
            for each in found
        ],
    }


def _written_page(
    arguments: argparse.Namespace,
    found: Sequence[Recommendation],
    evidence: Evidence,
    remarks: dict[str, list[str]],
    proofs: dict[str, list[Proof]],
) -> Iterator[str]:
    if arguments.html:
        _write(arguments.html, as_html(found, evidence, remarks, proofs), "w")
        yield f"{arguments.html} was written"


def _written(path: Path, found: Sequence[Recommendation], evidence: Evidence, limits: Advisor) -> Iterator[str]:
    left_out = [each for each in found if each.now is None]
    if len(left_out) == len(found):
        yield f"{path} was not written: no table can be synced as things are"
    else:
        _write(path, proposal.as_yaml(found, evidence, limits), "x")
        load(path)
        yield f"{path} was written: {len(found) - len(left_out):,} of {len(found):,} tables"
    yield from (f"left out: {each.name}: {_why_not(each)}" for each in left_out)


def _why_not(each: Recommendation) -> str:
    """What the best strategy needs first, or why there is none."""
    if each.best:
        return f"{each.best.name} would do, and needs {'; '.join(each.best.needs)}"
    refused = {option.name: option.why for option in each.options}
    return refused.get("full_snapshot") or next(iter(refused.values()), "no strategy can sync it")


def _write(path: Path, text: str, mode: str) -> None:
    try:
        with path.open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise SourceError(f"{path} cannot be written: {error.strerror}") from error

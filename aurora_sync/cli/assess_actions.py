"""Action of ``aurora-sync assess``: assess the source, recommend strategies, and write tables.yaml."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg2
from psycopg2.extensions import connection as Connection
from pydantic import ValidationError

from aurora_sync.advisor import proposal
from aurora_sync.advisor.evidence import Evidence, collect_evidence
from aurora_sync.advisor.notes import notes
from aurora_sync.advisor.page import as_html
from aurora_sync.advisor.prove import Proof, may_prove, prove
from aurora_sync.advisor.recommend import Recommendation, recommend
from aurora_sync.cli.assess_text import Assessment, document, head_lines, matrix, reason_lines, why_not
from aurora_sync.cli.printing import print_error_text, print_json, print_lines
from aurora_sync.cli.table import print_table
from aurora_sync.cli.terminal import columns
from aurora_sync.config.advisor import Advisor
from aurora_sync.config.loader import expand, load
from aurora_sync.config.settings import source_of
from aurora_sync.errors import ConfigError, SourceError
from aurora_sync.source import table_names
from aurora_sync.source.connection import connect
from aurora_sync.source.server_errors import translate
from aurora_sync.strategies import strategy_of

_TEXTS_FIT = 130  # columns of a terminal on which the table has room for its texts


def assess(arguments: argparse.Namespace) -> int:
    """Assess the source, print the result, and return the exit status. Raises ConfigError and SourceError.

    Of the settings in the environment, only AURORA_DSN is required; AURORA_SYNC_TABLES is optional.
    """
    path = arguments.write or Path(os.environ.get("AURORA_SYNC_TABLES") or "tables.yaml")
    written = load(path) if path.exists() else None
    limits = _limits(arguments, written.advisor if written else Advisor())
    with connect(source_of(os.environ)) as connection:
        existing = table_names.existing(connection)
        if not existing:
            raise ConfigError(
                "this role can see no table of the database", hint="GRANT USAGE ON SCHEMA ... TO the role"
            )
        wanted = set(table_names.matching(existing, arguments.tables))
        configured = expand(written, existing) if written and arguments.write else None
        if configured and not arguments.tables:
            wanted |= {
                (table.schema_, table.table_name) for table in configured
            }  # names in tables.yaml may be partitions
        evidence = collect_evidence(connection, sorted(wanted))
        found = recommend(evidence, limits)
        proofs, unproved = _proved(connection, found) if arguments.prove else ({}, False)
    remarks = {each.name: list(notes(each.table)) for each in found}
    said = []
    if arguments.html:
        _write(arguments.html, as_html(found, evidence, remarks, proofs), "w")
        said.append(f"{arguments.html} was written")
    if configured is not None:
        lines = list(proposal.differences(configured, found, evidence, limits, existing))
        verdict = "it differs from the proposal:" if lines else "it agrees with the proposal"
        said += [f"{arguments.write} exists and was not changed; {verdict}", *lines]
    elif arguments.write:
        said += _written(arguments.write, found, evidence, limits)
    assessment = Assessment(evidence, found, remarks, proofs)
    if arguments.json:
        print_json(document(assessment) | {"said": said})
    else:
        print_lines(*head_lines(evidence, found))
        _print_matrix(matrix(evidence, found))
        print_lines(*reason_lines(assessment, why=arguments.why), *(["", *said] if said else []))
    return 1 if unproved or any(proof.lies for each in proofs.values() for proof in each) else 0


def _print_matrix(rows: Sequence[Sequence[str]]) -> None:
    """Print the table. On a narrow terminal, the texts of the last column follow the table."""
    head, *below = rows
    width = columns(sys.stdout)
    if width is None or width >= _TEXTS_FIT:
        print_table(head, below, right=range(1, 6))
        return
    print_table(head[:-1], [row[:-1] for row in below], right=range(1, 6))
    if texts := [f"  {row[0]}: {row[-1]}" for row in below if row[-1]]:
        print_lines("", f"{head[-1]}:", *texts)


def _limits(arguments: argparse.Namespace, known: Advisor) -> Advisor:
    """Return the limits of tables.yaml, overridden by options of the command line. Raises ConfigError."""
    names = ("replication", "ddl", "deletes_at_once", "freshness", "max_read_per_day")
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    try:
        return Advisor(**(known.model_dump() | given))
    except ValidationError as error:
        raise ConfigError(
            [f"--{str(d['loc'][0]).replace('_', '-')}: {d['msg'].partition(', ')[2]}" for d in error.errors()]
        ) from error


def _proved(connection: Connection, found: Sequence[Recommendation]) -> tuple[dict[str, list[Proof]], bool]:
    """Return the proofs by table name, and True if a table could not be read. Prints the errors of such tables."""
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
            print_error_text(str(translate(error, where=each.name)))
    return proofs, failed


def _proofs(connection: Connection, each: Recommendation) -> Iterator[Proof]:
    """Yield a proof for every time column that an option would use as watermark."""
    table = each.table.table
    columns = {strategy_of(option.config).clock_column(option.config) for option in each.options}
    for column in sorted(filter(None, columns)):
        if may_prove(table, column):
            yield prove(connection, table, column)


def _written(path: Path, found: Sequence[Recommendation], evidence: Evidence, limits: Advisor) -> Iterator[str]:
    left_out = [each for each in found if each.now is None]
    if len(left_out) == len(found):
        yield f"{path} was not written: no table can be synced without a change at the source"
    else:
        _write(path, proposal.as_yaml(found, evidence, limits), "x")
        load(path)
        yield f"{path} was written: {len(found) - len(left_out):,} of {len(found):,} tables"
    yield from (f"left out: {each.name}: {why_not(each)}" for each in left_out)


def _write(path: Path, text: str, mode: str) -> None:
    try:
        with path.open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise SourceError(f"{path} cannot be written: {error.strerror}") from error

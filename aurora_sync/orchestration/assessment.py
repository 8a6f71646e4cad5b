"""Define one asset that assesses the source on a schedule (advisor/), with one check per table: its strategy fits.

The checks belong to this asset, not to the assets of the tables. Dagster shows a check that is evaluated once a day as
not evaluated after each later materialization of its asset. It is an observable asset, so that "Materialize all" leaves
it out.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import psycopg2
from psycopg2.extensions import connection as Connection

from aurora_sync.advisor.cost import human_bytes
from aurora_sync.advisor.evidence import Evidence, collect_evidence
from aurora_sync.advisor.profiles import option_name
from aurora_sync.advisor.prove import may_prove, prove
from aurora_sync.advisor.recommend import Recommendation, contradictions, has_rules, recommend, why_it_fits
from aurora_sync.config.advisor import Advisor
from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import AuroraSyncError
from aurora_sync.model.foreign_text import markdown, markdown_list, markdown_table
from aurora_sync.model.relation import SourceTable
from aurora_sync.orchestration import assets, compat
from aurora_sync.orchestration.assets import TableAsset
from aurora_sync.orchestration.project import Project
from aurora_sync.source import table_names
from aurora_sync.source.connection import connect
from aurora_sync.source.server_errors import translate
from aurora_sync.strategies import strategy_of

# The check fails if transaction ids last for fewer days without any VACUUM. On most servers they last for months.
WRAPAROUND_DAYS = 7
WRAPAROUND = "transaction_ids"
_WRAPAROUND_CHECK = f"Without VACUUM, the transaction ids of the source last for {WRAPAROUND_DAYS} days or longer."
NO_RATE = "The rate is unknown: the cluster is younger than a day or hides its age, or the source is a reader."

Unfit = dict[str, list[str]]  # table -> why its strategy does not fit; empty if it fits


def assessment_asset(synced: Sequence[TableAsset], limits: Advisor, project: Project) -> dg.AssetsDefinition:
    """Return the asset ``<name of the project>/advisor/assessment``. It reads the catalogue, and tables only if
    ``limits.prove``."""
    key = project.assessment_key
    tables = [asset.table for asset in synced]
    checked = {check_name(asset): asset.table for asset in synced}

    @dg.multi_asset(
        name=key.to_python_identifier(),
        specs=[
            dg.AssetSpec(
                key,
                description="Shows from catalogue and statistics which strategy suits each table (docs/assess.md).",
                group_name="assessment",
                kinds={"postgres"},
            )
        ],
        check_specs=[
            dg.AssetCheckSpec(WRAPAROUND, asset=key, description=_WRAPAROUND_CHECK),
            *(
                dg.AssetCheckSpec(
                    check,
                    asset=key,
                    description=markdown(f"{option_name(table)} still fits {table.qualified_name}."),
                )
                for check, table in checked.items()
            ),
        ],
        pool=project.pool,
        retry_policy=assets.RETRIES,
    )
    def assess_tables() -> Iterator[dg.ObserveResult | dg.AssetCheckResult]:
        try:
            evidence, found, unfit = _assess(tables, limits, project.connections.places().source.dsn)
        except AuroraSyncError as error:
            raise assets.failure(error) from error
        yield dg.ObserveResult(asset_key=key, metadata=_shown(tables, limits, evidence, found, unfit))
        days = evidence.days_to_wraparound
        yield dg.AssetCheckResult(
            asset_key=key,
            check_name=WRAPAROUND,
            passed=days is None or days >= WRAPAROUND_DAYS,
            severity=dg.AssetCheckSeverity.WARN,
            description=evidence.facts.get("transaction ids", NO_RATE),
        )
        for check, table in checked.items():
            why = unfit[table.qualified_name]
            yield dg.AssetCheckResult(
                asset_key=key,
                check_name=check,
                passed=not why,
                severity=dg.AssetCheckSeverity.WARN,
                description=markdown(_sentence(table, found.get(table.qualified_name), why)),
            )

    return compat.observed(assess_tables)


def check_name(asset: TableAsset) -> str:
    """Return the name of a table's check on the assessment asset."""
    return asset.key.to_python_identifier()


def _assess(
    tables: Sequence[TableConfig], limits: Advisor, dsn: str
) -> tuple[Evidence, dict[str, Recommendation], Unfit]:
    with connect(dsn) as connection:
        names = {*table_names.existing(connection), *((table.schema_, table.table_name) for table in tables)}
        evidence = collect_evidence(connection, sorted(names))
        found = {each.name: each for each in recommend(evidence, limits)}
        unfit: Unfit = {}
        for table in tables:
            name, each = table.qualified_name, found.get(table.qualified_name)
            unfit[name] = contradictions(table, each, evidence, limits) if each else ["the table no longer exists"]
            column = strategy_of(table).clock_column(table)
            if each and limits.prove and column and may_prove(each.table.table, column):
                unfit[name] += _lies(connection, each.table.table, column)
    return evidence, found, unfit


def _lies(connection: Connection, table: SourceTable, column: str) -> list[str]:
    """Return evidence against the column, or why the rows could not be read. Raises only if the connection is lost."""
    try:
        proof = prove(connection, table, column)
    except psycopg2.Error as error:
        if connection.closed:
            raise
        return [f"the rows could not be read: {translate(error, where=table.qualified_name)}"]
    return [proof.text] if proof.lies else []


def _sentence(table: TableConfig, found: Recommendation | None, why: Sequence[str]) -> str:
    if not why:
        unjudged = f"the table exists; the advisor has no rules for {option_name(table)}"
        return f"{option_name(table)} fits" if has_rules(table) else unjudged
    instead = f"; {found.now.name} fits" if found and found.now and found.now.name != option_name(table) else ""
    return f"{option_name(table)} no longer fits: {'; '.join(why)}{instead}"


def _better(table: TableConfig, found: Recommendation | None) -> str:
    """Return the strategy that the advisor ranks above that of the table, and what it needs, or else why."""
    best = found.best if found else None
    if best is None or best.name == option_name(table):
        return ""
    needs = f"needs: {'; '.join(best.needs)}" if best.needs else best.why or best.sees
    return f"{best.name}: {needs}"


def _shown(
    tables: Sequence[TableConfig],
    limits: Advisor,
    evidence: Evidence,
    found: dict[str, Recommendation],
    unfit: Unfit,
) -> dict[str, Any]:
    unit = " a day" if evidence.days else ""
    head = ["table", "has", "fits", "better", "rows, size", f"inserted, updated, deleted{unit}"]
    rows = []
    for table in sorted(tables, key=lambda t: (not unfit[t.qualified_name], t.qualified_name)):
        each, why = found.get(table.qualified_name), unfit[table.qualified_name]
        numbers = ["", ""]
        if each:
            size = human_bytes(each.table.heap + each.table.toast)
            rates = (f"{rate:,.0f}" for rate in evidence.rates(each.table.activity))
            numbers = [f"{each.table.rows:,}, {size}", ", ".join(rates)]
        reason = why_it_fits(table, each, evidence, limits) if each else ""
        fits = "; ".join(why) or (f"yes: {reason}" if reason else "yes")
        rows.append([table.qualified_name, option_name(table), fits, _better(table, each), *numbers])
    configured = {table.qualified_name for table in tables}
    missing = sorted(name for name, each in found.items() if name not in configured and each.now)
    shown: dict[str, Any] = {
        "tables": len(tables),
        "tables_that_do_not_fit": sum(bool(why) for why in unfit.values()),
        "tables_without_an_entry": len(missing),
        "matrix": dg.MetadataValue.md(markdown_table(head, rows)),
    }
    if missing:
        shown["without_an_entry"] = dg.MetadataValue.md(markdown_list(missing))
    if evidence.days_to_wraparound is not None:
        shown["days_to_wraparound"] = round(evidence.days_to_wraparound)
    return shown | {name.replace(" ", "_"): text for name, text in evidence.facts.items()}

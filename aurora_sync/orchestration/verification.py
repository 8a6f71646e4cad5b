"""Define one asset per group that compares every row of its tables with the sources (engine/verify.py).

It is a separate asset, because Dagster shows a check that is rarely evaluated as not evaluated after each later
materialization of its asset. It is an observable asset, so that "Materialize all" leaves it out. The row_count check of
a table repeats the last verdict on it (checks.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from pydantic import Field

from aurora_sync.engine import batch, report
from aurora_sync.engine.retries import retrying
from aurora_sync.errors import AuroraSyncError
from aurora_sync.model.foreign_text import markdown, markdown_block, markdown_table, printable
from aurora_sync.model.verification import Verification
from aurora_sync.orchestration import checks, compat
from aurora_sync.orchestration.assets import TableAsset, report_sync
from aurora_sync.orchestration.project import Project


class VerifyOptions(dg.Config):
    """Options of one run, for the launchpad and for schedules."""

    tables: list[str] = Field(
        default_factory=list, description="Tables of the group, as schema.table; an empty list selects all."
    )


def group_asset(group: str, tables: Sequence[TableAsset], project: Project) -> dg.AssetsDefinition:
    """Return the asset ``<name of the project>/<group>/verification``.

    Its run applies the increment of each table and then compares the table. It reports the increment as the table's own
    asset would.
    """
    key = project.verification_key(group)
    by_name = {asset.name: asset for asset in tables}

    @dg.multi_asset(
        name=key.to_python_identifier(),
        specs=[
            dg.AssetSpec(
                key,
                description=f"Compares every row of the {len(tables)} tables of {group} with the source.",
                deps=[asset.key for asset in tables],
                group_name=group,
                kinds={"postgres", project.warehouse},
            )
        ],
        check_specs=[dg.AssetCheckSpec("equal", asset=key, description="Every row is equal in source and target.")],
        pool=project.pool,
    )
    def verify_tables(
        context: dg.AssetExecutionContext, config: VerifyOptions
    ) -> Iterator[dg.ObserveResult | dg.AssetCheckResult]:
        if unknown := sorted(set(config.tables) - by_name.keys()):
            raise dg.Failure(f"group {group} does not contain {', '.join(unknown)}", allow_retries=False)
        compat.keep_connections(context.instance)
        places, found, errors = project.connections.places(), dict[str, Verification](), dict[str, str]()
        for asset in (by_name[chosen] for chosen in config.tables or by_name):
            try:
                receipt = retrying(lambda table=asset.table: batch.verify(table, places))  # type: ignore[misc]
            except AuroraSyncError as error:  # continue with the other tables
                errors[asset.name] = str(error)
                context.log.error(printable(f"{asset.name} was not verified: {error}"))
                continue
            found[asset.name] = checks.verification_of(receipt)
            report_sync(context.instance, asset, receipt, None)
        last = checks.last_verdicts(context.instance, key)
        verdicts = {name: verdict for name, verdict in last.items() if name in by_name} | {
            name: checks.as_verdict(verification) for name, verification in found.items()
        }
        different = [name for name, verification in found.items() if not verification.equal]
        sentence = _sentence(found, different, errors)
        yield dg.ObserveResult(asset_key=key, metadata=_shown(sentence, found, errors, verdicts))
        yield dg.AssetCheckResult(
            asset_key=key,
            check_name="equal",
            passed=not different and not errors,
            description=markdown(sentence),
        )
        if errors:
            raise dg.Failure(sentence, metadata=errors, allow_retries=False)

    return compat.observed(verify_tables)


def _shown(
    sentence: str, found: Mapping[str, Verification], errors: Mapping[str, str], verdicts: Mapping[str, Any]
) -> dict[str, Any]:
    head = ["table", "verdict", "rows of the source", "rows of the target", "as of (UTC)", "by"]
    rows = [
        [
            name,
            "equal" if one.equal else checks.difference(checks.as_verdict(one)),
            f"{one.source_rows:,}",
            f"{one.target_rows:,}",
            f"{one.as_of:%Y-%m-%d %H:%M:%S}",
            one.method,
        ]
        for name, one in found.items()
    ]
    rows += [[name, f"not verified: {error}", "", "", "", ""] for name, error in errors.items()]
    shown: dict[str, Any] = {
        "state": sentence,
        "tables": len(found) + len(errors),
        "tables_equal": sum(verification.equal for verification in found.values()),
        "rows_compared": sum(verification.source_rows for verification in found.values()),
        "rows_differing": sum(one.missing + one.different + one.ghosts for one in found.values()),
        "tables_verified": dg.MetadataValue.md(markdown_table(head, rows)),
    }
    if lines := [line for name, one in found.items() if not one.equal for line in (name, *report.verification(one))]:
        shown["differing_rows"] = dg.MetadataValue.md(markdown_block(lines))
    return shown | {checks.VERDICTS: dg.MetadataValue.json(dict(verdicts))}


def _sentence(found: Mapping[str, Verification], different: Sequence[str], errors: Mapping[str, str]) -> str:
    parts = [f"{len(found) - len(different)} tables are equal to their sources"]
    if different:
        parts.append(f"{len(different)} are different: {', '.join(different)}")
    if errors:
        parts.append(f"{len(errors)} could not be verified: {', '.join(errors)}")
    return "; ".join(parts)

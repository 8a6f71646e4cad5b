from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from aurora_sync.model.column import Column
from aurora_sync.model.manifest import Disposition, Manifest, StagedFile
from aurora_sync.model.state import State
from aurora_sync.model.watermark import Watermark
from aurora_sync.stage.manifest import Hint, manifest_from_json
from aurora_sync_tests.certificates import CERTIFIED


@pytest.fixture
def manifest(watermark: Watermark) -> Manifest:
    return Manifest(
        table='sales."Größe"',
        load_id="0a1b2c3d4e5f",
        prefix="p/t/20261123T010203Z-0a1b2c3d4e5f/",
        disposition=Disposition.UPSERT,
        files=(StagedFile("part-00000.csv.zst", 3, 90), StagedFile("part-00001.csv.zst", 1, 40)),
        columns=(
            Column("id", 1, "bigint", "int8", type_category="N", not_null=True, identity="a"),
            Column("größe", 2, "numeric(10,2)", "numeric", base_modifier=655366, default="0", comment='a "b"'),
        ),
        key=("id",),
        watermark_before=None,
        watermark_after=watermark,
        expected_sequence=7,
        certificate=CERTIFIED,
        source_rows=4,
    )


def test_manifest_reads_back_as_it_was_written(manifest: Manifest, watermark: Watermark) -> None:
    assert manifest_from_json(manifest.to_json()) == manifest
    later = replace(manifest, watermark_before=watermark, source_rows=None, files=(), key=())
    assert manifest_from_json(later.to_json().encode()) == later


def test_files_of_an_earlier_release_are_compressed(manifest: Manifest) -> None:
    document = json.loads(manifest.to_json())
    for file in document["files"]:
        assert file.pop("compression") == "zstd"
    assert manifest_from_json(json.dumps(document)) == manifest
    plain = replace(manifest, files=(StagedFile("part-00000.csv", 3, 90, compression=""),))
    assert manifest_from_json(plain.to_json()) == plain


def test_manifest_of_an_earlier_release_has_no_log_position(manifest: Manifest) -> None:
    document = json.loads(manifest.to_json())
    assert document.pop("log_position") == manifest.log_position
    assert manifest_from_json(json.dumps(document)) == replace(manifest, log_position=0)


def test_manifest_of_another_shape_is_refused(manifest: Manifest) -> None:
    document = json.loads(manifest.to_json())
    del document["key"]
    for text in ("", "[]", json.dumps(document), json.dumps({**document, "key": [], "watermark_after": None})):
        with pytest.raises(ValueError):  # noqa: PT011  # json's own error for the first
            manifest_from_json(text)


def test_hint_reads_back_as_it_was_written(watermark: Watermark) -> None:
    at = datetime(2026, 11, 23, 1, 2, 3, tzinfo=UTC)
    full = Hint(
        "public.t",
        "duckdb:w",
        State(4, watermark, load_id="0a1b2c", target_rows=77, applied_at=at, size=(77, 4096, "2026-11-22 01:02:03")),
        at,
        "s3://b/manifest.json",
    )
    assert Hint.from_json(full.to_json()) == full
    older = json.loads(full.to_json()) | {"size": [77, 4096]}
    assert Hint.from_json(json.dumps(older)).state == replace(full.state, size=(77, 4096))
    never = Hint("public.t", "duckdb:w", State(0, None), at, None)
    assert Hint.from_json(never.to_json()) == never

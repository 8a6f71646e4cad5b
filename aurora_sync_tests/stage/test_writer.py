from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from aurora_sync.errors import Kind, StageError
from aurora_sync.model.manifest import Disposition, Manifest
from aurora_sync.model.watermark import Watermark
from aurora_sync.objects.store import Store
from aurora_sync.stage import writer
from aurora_sync.stage.manifest import manifest_from_json
from aurora_sync.stage.writer import Attempt, Stage
from aurora_sync_tests.certificates import CERTIFIED


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduce the size of chunks, so that a test of many chunks, parts and objects needs little data."""
    monkeypatch.setattr(writer, "CHUNK_BYTES", 50_000)


@pytest.fixture
def prefix(store: Store) -> str:
    return f"{store.prefix}public.t/attempt/"


def rows(count: int) -> Iterator[bytes]:
    """Yield rows of different lengths that compress badly and have newlines inside quotes."""
    noise = random.Random(7)
    for number in range(count):
        yield b'%d,"%s\n",x\n' % (number, noise.randbytes(noise.randrange(20, 120)).hex().encode())


def contents(store: Store, attempt: Attempt) -> list[bytes]:
    found = []
    for file in attempt.files:
        body = store.get(attempt.prefix + file.name)
        assert body is not None
        assert len(body) == file.bytes
        found.append(zstandard.ZstdDecompressor().stream_reader(io.BytesIO(body)).read())
    return found


def unfinished_uploads(store: Store) -> list[str]:
    answer = store._client.list_multipart_uploads(Bucket=store.bucket, Prefix=store.prefix)
    return [upload["Key"] for upload in answer.get("Uploads", [])]


def test_small_increment_is_one_object(store: Store, prefix: str) -> None:
    with Attempt(store, prefix) as attempt:
        attempt.write(b"1,a\n")
        attempt.write(b'2,"b\nc"\n')
    assert [(file.name, file.rows) for file in attempt.files] == [("part-00000.csv.zst", 2)]
    assert contents(store, attempt) == [b'1,a\n2,"b\nc"\n']


def test_a_flipped_bit_is_never_another_value(store: Store, prefix: str) -> None:
    """Without a checksum of the content, most flipped bits are decompressed without an error."""
    data = b"".join(rows(2_000))
    with Attempt(store, prefix) as attempt:
        attempt.write(data)
    ours = store.get(attempt.prefix + attempt.files[0].name)
    naive = zstandard.ZstdCompressor().compress(data)
    assert ours is not None

    def accepted(compressed: bytes) -> int:
        noise, found = random.Random(3), 0
        for _ in range(200):
            flipped = bytearray(compressed)
            flipped[noise.randrange(len(flipped))] ^= 1 << noise.randrange(8)
            with suppress(zstandard.ZstdError):
                found += bool(zstandard.ZstdDecompressor().stream_reader(io.BytesIO(flipped)).read())
        return found

    assert accepted(naive) > 100
    assert accepted(ours) == 0


def test_increment_without_rows_writes_no_object(store: Store, prefix: str) -> None:
    with Attempt(store, prefix) as attempt:
        pass
    assert attempt.files == ()
    assert store.list(prefix) == []


def test_large_increment_is_cut_at_row_boundaries_into_multipart_objects(store: Store, prefix: str) -> None:
    data = list(rows(150_000))  # 24 MB of CSV, 11 MB compressed
    with Attempt(store, prefix, object_bytes=6_000_000, part_bytes=5_500_000) as attempt:
        for row in data:
            attempt.write(row)
    texts = contents(store, attempt)
    assert [file.name for file in attempt.files] == ["part-00000.csv.zst", "part-00001.csv.zst"]
    assert b"".join(texts) == b"".join(data)
    start = 0
    for file, text in zip(attempt.files, texts, strict=True):
        assert text == b"".join(data[start : start + file.rows])
        start += file.rows
    assert attempt.files[0].bytes >= 6_000_000
    assert unfinished_uploads(store) == []


def test_objects_grow(store: Store, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(writer, "FIRST_OBJECT_BYTES", 60_000)
    monkeypatch.setattr(writer, "OBJECTS_OF_A_SIZE", 2)
    monkeypatch.setattr(writer, "OBJECT_BYTES", 200_000)
    with Attempt(store, prefix, object_bytes=200_000) as attempt:
        for row in rows(20_000):
            attempt.write(row)
    sizes = [round(file.bytes / 60_000, 1) for file in attempt.files]
    assert all(1 <= size < 3 for size in sizes[:2])
    assert all(2 <= size < 4 for size in sizes[2:4])
    assert all(3.3 <= size < 5.3 for size in sizes[4:-1])
    with Attempt(store, f"{prefix}more/", object_bytes=200_000, first_part=len(sizes)) as more:
        for row in rows(8_000):
            more.write(row)
    assert more.files[0].bytes >= 200_000


@pytest.mark.parametrize(
    ("staged", "objects"),
    [(0, 0), (1, 1), (8_000_000, 1), (64_000_001, 9), (960_000_000, 32), (960_000_001, 33), (2_240_000_000, 42)],
)
def test_number_of_objects_follows_from_the_bytes(staged: int, objects: int) -> None:
    assert writer.objects_of(staged) == objects


def test_object_that_ends_with_the_last_chunk_leaves_no_empty_one(
    store: Store, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "CHUNK_BYTES", 300_000)  # more than zstd buffers
    with Attempt(store, prefix, object_bytes=1) as attempt:
        for _ in range(6_000):
            attempt.write(b"x" * 99 + b"\n")
    assert [file.rows for file in attempt.files] == [3_000, 3_000]
    assert len(store.list(prefix)) == 2


def write_then_fail(attempt: Attempt, count: int, *, close: bool = False) -> None:
    with attempt:
        for row in rows(count):
            attempt.write(row)
        if close:
            attempt.close()
        raise ZeroDivisionError


def test_aborted_attempt_leaves_nothing(store: Store, prefix: str) -> None:
    many_objects = Attempt(store, prefix, object_bytes=100_000)
    with pytest.raises(ZeroDivisionError):
        write_then_fail(many_objects, 50_000)
    many_parts = Attempt(store, prefix, part_bytes=5_500_000)
    with pytest.raises(ZeroDivisionError):
        write_then_fail(many_parts, 100_000)
    assert store.list(prefix) == []
    assert unfinished_uploads(store) == []


def test_exception_after_close_keeps_the_files(store: Store, prefix: str) -> None:
    """A manifest may already name the files."""
    attempt = Attempt(store, prefix)
    with pytest.raises(ZeroDivisionError):
        write_then_fail(attempt, 1, close=True)
    assert store.list(prefix) == [prefix + attempt.files[0].name]


class BrokenStore(Store):
    def put_new(self, key: str, body: bytes) -> None:
        raise StageError("S3 answered SlowDown", kind=Kind.TRANSIENT)


def test_upload_that_fails_stops_the_writing(store: Store, prefix: str) -> None:
    written = 0

    def write() -> None:
        nonlocal written
        with Attempt(BrokenStore(store.bucket), prefix, object_bytes=1) as attempt:
            for row in rows(100_000):
                attempt.write(row)
                written += 1

    with pytest.raises(StageError, match="SlowDown"):
        write()
    assert written < 20_000  # no more rows than fit into the queues
    assert not any(thread.name.startswith("stage-") for thread in threading.enumerate())


def test_upload_that_fails_at_the_end_fails_the_close(store: Store, prefix: str) -> None:
    attempt = Attempt(BrokenStore(store.bucket), prefix)
    attempt.write(b"1\n")
    with pytest.raises(StageError, match="SlowDown"):
        attempt.close()
    assert attempt.files == ()


class StalledStore(Store):
    """A store whose uploads wait until the test releases them."""

    def __init__(self, bucket: str) -> None:
        super().__init__(bucket)
        self.go = threading.Event()

    def put_new(self, key: str, body: bytes) -> None:
        self.go.wait()


def test_slow_bucket_slows_the_writing_down() -> None:
    store = StalledStore("bucket")
    written = 0

    def write() -> None:
        nonlocal written
        with Attempt(store, "p/", object_bytes=1) as attempt:
            for row in rows(20_000):  # 65 chunks
                attempt.write(row)
                written += 1

    thread = threading.Thread(target=write)
    thread.start()
    thread.join(timeout=1)
    held_at = written
    store.go.set()
    thread.join()
    assert held_at < written == 20_000


def manifest_of(attempt: Attempt, watermark: Watermark) -> Manifest:
    return Manifest(
        table="public.t",
        load_id="00",
        prefix=attempt.prefix,
        disposition=Disposition.APPEND,
        files=attempt.files,
        columns=(),
        key=(),
        watermark_before=None,
        watermark_after=watermark,
        expected_sequence=0,
        certificate=CERTIFIED,
    )


def test_manifest_commits_once(store: Store, watermark: Watermark) -> None:
    stage = Stage(store)
    with stage.attempt("public.t", "00") as attempt:
        attempt.write(b"1\n")
    manifest = manifest_of(attempt, watermark)
    uri = stage.commit(manifest)
    assert uri == f"s3://{store.bucket}/{attempt.prefix}manifest.json"
    body = store.get(f"{attempt.prefix}manifest.json")
    assert body is not None
    assert manifest_from_json(body) == manifest
    assert stage.commit(manifest) == uri
    with pytest.raises(StageError, match="PreconditionFailed"):
        stage.commit(replace(manifest, source_rows=5))


KILLED = """
import os, sys
from aurora_sync.objects.store import Store
from aurora_sync.stage.writer import Stage

attempt = Stage(Store.from_url(os.environ["AURORA_SYNC_STAGE"])).attempt("public.t", "00")
for number in range(600_000):
    attempt.write(b"%s,%d\\n" % (os.urandom(30).hex().encode(), number))
print(attempt.prefix, flush=True)
sys.stdin.read()
"""


def test_process_killed_while_writing_leaves_no_manifest(store: Store, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED]
    root = str(Path(writer.__file__).parents[2])
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
        text=True,
    ) as process:
        assert process.stdout is not None
        prefix = process.stdout.readline().strip()
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert prefix.startswith(store.prefix)
    assert [key for key in store.list(store.prefix) if not key.endswith(".csv.zst")] == []

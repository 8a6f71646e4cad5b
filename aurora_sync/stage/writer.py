"""The stage, and the attempt that writes the files of an increment.

A row costs one resumed generator in the caller's thread. Compression (zstd releases the GIL) runs in one further
thread, uploads in two. The queues between the threads hold a few chunks and parts, so memory is constant and a slow
bucket slows the COPY down.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from threading import BoundedSemaphore
from types import TracebackType
from typing import Self, TypeVar

import zstandard

from aurora_sync.errors import DefectError, StageError
from aurora_sync.model import foreign_text
from aurora_sync.model.manifest import Manifest, StagedFile
from aurora_sync.model.state import State
from aurora_sync.objects.store import Store
from aurora_sync.stage import layout
from aurora_sync.stage.manifest import Hint, manifest_from_json

logger = foreign_text.logger(__name__)
Result = TypeVar("Result")

# Snowflake asks for files of 100 to 250 MB: one thread loads one file, and every file has a fixed cost. The first
# objects are smaller, so that a table of 100 MB is loaded by several threads too.
OBJECT_BYTES = 128_000_000
FIRST_OBJECT_BYTES = 8_000_000
OBJECTS_OF_A_SIZE = 8
# S3 requires parts of at least 5 MB. At 8 MB an object has 16 of them, and the few that wait fit into memory.
PART_BYTES = 8_000_000
# Raw CSV that the compressor gets at a time, in whole rows.
CHUNK_BYTES = 1_000_000
# Limits of memory: chunks in compression or waiting for it, parts in upload or waiting for it. The chunks of a third of
# a second let the COPY continue while the compressor pauses, for instance to open an upload.
CHUNKS_UNDER_WAY = 32
PARTS_UNDER_WAY = 4
UPLOAD_THREADS = 2
COMPRESSION_LEVEL = 1


def objects_of(staged: int) -> int:
    """Return the number of objects that hold this number of bytes."""
    number = 0
    while staged > 0:
        staged -= _object_bytes(number, OBJECT_BYTES)
        number += 1
    return number


def _object_bytes(number: int, most: int) -> int:
    """Return the size of an object of an attempt, which are numbered from 0: the size doubles after every eight."""
    return min(most, FIRST_OBJECT_BYTES << min(number // OBJECTS_OF_A_SIZE, 32))


class Attempt:
    """The writer of the objects of one attempt: :attr:`write` takes whole CSV rows, one at a time.

    As a context manager it closes at the end, and aborts on an exception. Later runs ignore the attempt until
    :meth:`Stage.commit` has written its manifest. Without rows there are no objects.
    """

    def __init__(
        self,
        store: Store,
        prefix: str,
        *,
        object_bytes: int = OBJECT_BYTES,
        part_bytes: int = PART_BYTES,
        first_part: int = 0,
        name: Callable[[int], str] = layout.part_name,
    ) -> None:
        self.prefix = prefix
        self._name = name
        self._first_part = first_part
        self.files: tuple[StagedFile, ...] = ()  # set by close()
        self.tail = bytearray()  # the last one or two chunks of rows written, in whole rows; set by finish()
        self._store = store
        self._object_bytes = object_bytes
        self._part_bytes = part_bytes
        self.each_chunk: Callable[[int, int], object] = lambda *_: None
        self._written = (0, 0)  # rows and bytes
        self.longest = 0  # bytes; an upper bound of the length of every row written
        self._failures: list[BaseException] = []
        self._compressor = _BoundedPool("stage-compress", 1, CHUNKS_UNDER_WAY, self._failures)
        self._uploader = _BoundedPool("stage-upload", UPLOAD_THREADS, PARTS_UNDER_WAY, self._failures)
        self._objects: list[_Object] = []
        self._added: list[StagedFile] = []
        self._last: Future[None] | None = None
        self._open = True
        self._collector = self._collect()
        next(self._collector)
        # A generator and not a method: psycopg2 calls it for every row, and resuming costs a third of a method call.
        # Raises StageError when earlier rows could not be compressed or uploaded.
        self.write: Callable[[bytes], object] = self._collector.send

    @property
    def uri(self) -> str:
        return self._store.uri(self.prefix)

    def own_name(self, number: int) -> str:
        return layout.own_name(self._first_part + number)

    def stored(self, name: str) -> list[tuple[str, int]]:
        pages = self._store.pages(self.prefix + name)
        return [(found.key.removeprefix(self.prefix), found.bytes) for page in pages for found in page]

    def remove(self, names: Sequence[str]) -> None:
        self._store.delete([self.prefix + name for name in names])

    def add(self, files: Sequence[StagedFile]) -> None:
        self._added += files

    def finish(self) -> int:
        """Accept no further rows, and return the number of rows written. Other threads compress and upload the last of
        them, for which :meth:`close` waits."""
        self._collector.close()
        if self._last is None:
            self._last = self._compressor.submit(self._finish_object)
        return self._written[0]

    def close(self) -> None:
        """Finish the objects. When the method returns, all rows are durable in S3 and :attr:`files` names the objects.
        On a failure the attempt is aborted and the failure raised."""
        try:
            rows = self.finish()
            assert self._last is not None
            self._last.result()
            files = [staged.file() for staged in self._objects]
            if rows != sum(file.rows for file in files):
                raise DefectError(f"{rows} rows were written, but the files have {sum(file.rows for file in files)}")
            self.files = (*self._added, *files)
        except BaseException:
            self.abort()
            raise
        self._shut()

    def abort(self) -> None:
        """Stop, and remove the uploaded objects. Does nothing after :meth:`close`. When S3 refuses to delete an object,
        that is logged only: without a manifest no run reads it."""
        if not self._open:
            return
        self._failures.append(DefectError("a row was written to an attempt that was aborted"))
        self._shut()
        self._collector.close()
        try:
            for staged in self._objects:
                staged.discard()
        except StageError as error:
            logger.warning(
                "files of an aborted attempt remain under %s, where `aurora-sync gc` removes them: %s",
                self.prefix,
                error,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._open:
            self.close()
        else:
            self.abort()

    def _collect(self) -> Generator[None, bytes, None]:
        chunk, rows = bytearray(), 0
        before = chunk
        try:
            chunk += yield
            rows += 1
            self._uploader.submit(self._store.connect)  # meanwhile the server looks for further rows
            while True:
                while len(chunk) < CHUNK_BYTES:
                    chunk += yield
                    rows += 1
                self._submit(chunk, rows)
                before, chunk, rows = chunk if len(chunk) < 2 * CHUNK_BYTES else bytearray(), bytearray(), 0
        except GeneratorExit:
            self.tail = before + chunk
            if rows and self._open:
                self._submit(chunk, rows)

    def _submit(self, chunk: bytearray, rows: int) -> None:
        """Queue a chunk for compression. A chunk with a row of hundreds of MB takes many places of the queue, so that
        the queue holds only a few such rows."""
        self.longest = max(self.longest, len(chunk))
        places = min(CHUNKS_UNDER_WAY, 1 + len(chunk) // (4 * CHUNK_BYTES))
        self._compressor.submit(self._compress, chunk, rows, places=places)
        self._written = self._written[0] + rows, self._written[1] + len(chunk)
        self.each_chunk(*self._written)

    def _compress(self, chunk: bytearray, rows: int) -> None:
        begins = not self._objects or self._objects[-1].finished is not None
        number = self._first_part + len(self._objects) - (not begins)
        limit = _object_bytes(number, self._object_bytes)
        if begins:
            # An object of about one part is one request instead of four.
            part_bytes = self._part_bytes if limit > self._part_bytes else 2 * self._part_bytes
            self._objects.append(_Object(self._store, self._uploader, self.prefix, self._name(number), part_bytes))
        self._objects[-1].add(chunk, rows)
        if self._objects[-1].bytes >= limit:
            self._finish_object()

    def _finish_object(self) -> None:
        if self._objects and not self._objects[-1].finished:
            self._objects[-1].finish()

    def _shut(self) -> None:
        self._open = False
        self._compressor.shut()
        self._uploader.shut()


class _Object:
    """One S3 object being written: with a single put when it is small, else with a multipart upload."""

    def __init__(self, store: Store, uploader: _BoundedPool, prefix: str, name: str, part_bytes: int) -> None:
        self.bytes = 0
        self.finished: Future[None] | None = None
        self._store = store
        self._uploader = uploader
        self._name = name
        self._key = prefix + name
        self._part_bytes = part_bytes
        self._rows = 0
        self._longest = 0
        # Without a checksum of the content most flipped bits would change a value without an error.
        self._zstd = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL, write_checksum=True).compressobj()
        self._pending = bytearray()
        self._upload: str | None = None
        self._parts: list[Future[str]] = []

    def add(self, chunk: bytearray, rows: int) -> None:
        self._take(self._zstd.compress(chunk))
        self._rows += rows
        self._longest = max(self._longest, len(chunk))
        if len(self._pending) >= self._part_bytes:
            self._send_part()

    def finish(self) -> None:
        self._take(self._zstd.flush())
        if self._upload is None:
            self.finished = self._uploader.submit(self._store.put_new, self._key, bytes(self._pending))
        else:
            self._send_part()
            # The queue is first in, first out, so this work only waits for parts that are already being uploaded.
            self.finished = self._uploader.submit(self._complete, self._upload)

    def file(self) -> StagedFile:
        """Wait until the object is durable, and return its description."""
        if self.finished is None:
            raise DefectError("the object was described before it was finished", where=self._key)
        self.finished.result()
        return StagedFile(self._name, self._rows, self.bytes, self._longest)

    def discard(self) -> None:
        """Delete the object or its unfinished upload. The caller has stopped all threads that write it."""
        if self.finished is not None and self.finished.exception() is None:
            self._store.delete([self._key])
        elif self._upload is not None:
            self._store.abort_upload(self._key, self._upload)

    def _take(self, compressed: bytes) -> None:
        self._pending += compressed
        self.bytes += len(compressed)

    def _send_part(self) -> None:
        if self._upload is None:
            self._upload = self._store.start_upload(self._key)
        number, body = len(self._parts) + 1, bytes(self._pending)
        self._pending = bytearray()
        self._parts.append(self._uploader.submit(self._store.upload_part, self._key, self._upload, number, body))

    def _complete(self, upload: str) -> None:
        self._store.finish_upload(self._key, upload, [part.result() for part in self._parts])


class _BoundedPool:
    """A thread pool behind a bounded first-in first-out queue. After any failure of the attempt, work that has not
    begun fails at once."""

    def __init__(self, name: str, threads: int, depth: int, failures: list[BaseException]) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._slots = BoundedSemaphore(depth)
        self._failures = failures

    def submit(self, work: Callable[..., Result], *arguments: object, places: int = 1) -> Future[Result]:
        """Wait for ``places`` free places in the queue, and queue ``work``. Raises the attempt's first failure, if any
        work has failed."""
        for _ in range(places):
            self._slots.acquire()
        if self._failures:
            self._slots.release(places)
            raise self._failures[0]
        return self._pool.submit(self._run, work, arguments, places)

    def shut(self) -> None:
        self._pool.shutdown()

    def _run(self, work: Callable[..., Result], arguments: tuple[object, ...], places: int) -> Result:
        try:
            if self._failures:
                raise self._failures[0]
            return work(*arguments)
        except BaseException as error:
            self._failures.append(error)
            raise
        finally:
            self._slots.release(places)


class Stage:
    """The storage of increments between source and warehouse. The constructor does no I/O.

    ``target`` names the warehouse to which the hints belong (:meth:`Warehouse.describe`); hints for another warehouse
    are ignored.
    """

    def __init__(self, store: Store, *, target: str = "") -> None:
        self.store = store
        self.target = target

    def attempt(self, table: str, load_id: str) -> Attempt:
        """Return a writer for the files of one attempt, under a prefix that no other attempt has."""
        at = datetime.now(UTC)
        return Attempt(self.store, layout.attempt_prefix(self.store.prefix, table, load_id, at))

    def more(self, manifest: Manifest) -> Attempt:
        """Return a writer for further files of an attempt that is closed and not committed yet."""
        return Attempt(self.store, manifest.prefix, first_part=len(manifest.files))

    def history(self, attempt: Attempt) -> Attempt:
        """Return a writer for the history files of an attempt."""
        return Attempt(self.store, attempt.prefix, name=layout.history_name)

    def commit(self, manifest: Manifest) -> str:
        """Write the manifest, the last object of its attempt, and return its URI. The manifest is durable when the
        method returns. Never overwrites; idempotent for the same manifest."""
        key = f"{manifest.prefix}manifest.json"
        self.store.put_new(key, manifest.to_json().encode())
        return self.store.uri(key)

    def newest_manifests(self, table: str, most: int) -> list[Manifest]:
        """Return the manifests of the newest attempts on a table, at most ``most``, oldest first; without those that
        another release wrote."""
        found = []
        keys = self.store.list(layout.table_prefix(self.store.prefix, table))
        for key in sorted(key for key in keys if key.endswith(f"/{layout.MANIFEST}"))[-most:]:
            body = self.store.get(key)
            with suppress(ValueError):
                found += [manifest_from_json(body)] if body is not None else []
        return found

    def hint(self, table: str) -> Hint | None:
        """Return the hint that :meth:`confirm` wrote last for this table and target. Return None when it is missing,
        broken, of a newer version or for another target: the caller then reads the sync log."""
        for key in self.store.list(layout.hints_prefix(self.store.prefix, table), limit=1):
            body = self.store.get(key)
            try:
                hint = Hint.from_json(body) if body is not None else None
            except ValueError as error:
                logger.warning("ignored the hint %s: %s", self.store.uri(key), error)
                return None
            if hint and (hint.table, hint.target) == (table, self.target):
                return hint
        return None

    def confirm(self, table: str, state: State, manifest_uri: str | None, *, since: datetime | None = None) -> None:
        """Write a hint with the ``state`` in the sync log, after an increment was applied or the log was read again.
        With ``since``, the state is that of an earlier hint, confirmed at that time.

        Hints of later run sequences contradict the log (the target was restored, or is another one) and are deleted.
        Correctness does not depend on this call: without a hint the next run reads the log in the warehouse.
        """
        prefix = layout.hints_prefix(self.store.prefix, table)
        newest = self.store.list(prefix, limit=1)
        if newest and _is_ahead(newest[0], state):
            self.store.delete([key for key in self.store.list(prefix) if _is_ahead(key, state)])
        at = datetime.now(UTC)
        hint = Hint(table, self.target, state, since or at, manifest_uri)
        key = layout.hint_key(self.store.prefix, table, state.run_sequence, at)
        self.store.put_new(key, hint.to_json().encode())


def _is_ahead(key: str, state: State) -> bool:
    return (layout.hint_sequence(key) or 0) > state.run_sequence

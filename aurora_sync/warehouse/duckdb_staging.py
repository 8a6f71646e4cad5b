"""Staged files as DuckDB reads them: local copies, which all threads read at once.

Most rows are not copied into their staging table. DuckDB would compress them there, which takes longer than to read
the files twice: to check the rows, and to write them to the target. So reads of the staging table are reads of a view
of the files.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

from aurora_sync.errors import Kind, WarehouseError
from aurora_sync.model.manifest import Manifest, StagedFile
from aurora_sync.warehouse.base import Objects

# The longest row that DuckDB reads without a larger buffer, and the buffer for files whose longest row is not known.
SHORT_ROW_BYTES = 2 * 2**20
ROW_BYTES = 64 * 2**20

# Each thread reads a file of its own. ``parallel`` would let several threads guess where the rows of one file begin.
READ_CSV = (
    "read_csv({files}, columns = {columns}, compression = '{compression}', auto_detect = false, header = false,"
    " delim = ',', quote = '\"', escape = '\"', new_line = '\\n', nullstr = '', allow_quoted_nulls = false,"
    " strict_mode = true, null_padding = false, ignore_errors = false, parallel = false,"
    " hive_partitioning = false,"
    " max_line_size = {row_bytes}, buffer_size = 2 * {row_bytes})"
)

_DOWNLOADS = 4
_PROCESS = secrets.token_hex(8)

Copy = tuple[StagedFile, Path]  # a file and its local copy


class StagedFiles:
    """The files of one session, in a folder beside the database, until :meth:`close`.

    The session holds the database, so folders of other processes are left from killed ones, and are removed.
    """

    def __init__(self, database: Path) -> None:
        self._database = database
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._in_place: dict[str, list[Copy]] = {}  # files that were not copied into their staging table

    def download(self, manifest: Manifest, objects: Objects) -> list[Copy]:
        """Copy the manifest's files to the folder. Returns each file with its copy."""
        if self._folder is None:
            folders = f"{self._database.name}.staged_"
            for found in self._database.parent.iterdir():
                if found.name.startswith(folders) and not found.name.startswith(folders + _PROCESS):
                    shutil.rmtree(found, ignore_errors=True)
            self._folder = tempfile.TemporaryDirectory(prefix=folders + _PROCESS, dir=self._database.parent)
        folder = Path(tempfile.mkdtemp(dir=self._folder.name))
        copies = [(file, folder / f"{place}.csv") for place, file in enumerate(manifest.files)]
        try:
            with ThreadPoolExecutor(_DOWNLOADS, thread_name_prefix="stage-download") as pool:
                done = [pool.submit(objects.download, manifest.prefix + file.name, path) for file, path in copies]
                for each in done:
                    each.result()
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise WarehouseError(
                f"the staged files could not be copied to a folder beside the database: {error.strerror or error}",
                where=f"duckdb:{self._database}",
                hint="free space on the disk of the DuckDB file, then run again",
                kind=Kind.TRANSIENT,
            ) from error
        return copies

    def read_in_place(self, staging_table: str, names: Iterable[str], copies: Iterable[Copy]) -> str:
        """Return the statement that makes these files a part of what reads of the staging table find."""
        files = self._in_place.setdefault(staging_table, [])
        files += copies
        view = self._views()[staging_table].removeprefix("temp.main.")
        rows = f"SELECT * FROM {staging_table} UNION ALL {rows_of(files, names)}"  # noqa: S608
        return f"CREATE OR REPLACE TEMPORARY VIEW {view} AS {rows}"

    def reading(self, statement: str) -> str:
        """Return a statement that reads the views in place of their staging tables. It writes to the tables. One that
        creates or drops a staging table forgets its files."""
        if statement.startswith(("CREATE ", "DROP ")):
            for table, files in self._in_place.items():
                if table in statement:
                    files.clear()
            return statement
        for table, view in self._views().items():
            written = f"INSERT INTO {table}"
            kept = len(written) if statement.startswith(written) else 0
            statement = statement[:kept] + statement[kept:].replace(table, view)
        return statement

    def _views(self) -> dict[str, str]:
        named = ((table, f"temp.main._AURORA_SYNC_STAGED_{place}") for place, table in enumerate(self._in_place))
        return {table: view for table, view in named if self._in_place[table]}

    def close(self) -> None:
        """Remove the copies. Idempotent."""
        if self._folder:
            self._folder.cleanup()


def rows_of(copies: Iterable[Copy], names: Iterable[str]) -> str:
    """Return a SELECT of the rows of the files, all of them texts, with columns of these names."""
    columns = "{" + ", ".join(f"{_literal(name)}: 'VARCHAR'" for name in names) + "}"
    # The threads take the files in this order. With a large one at the end, one thread would read it alone.
    ordered = sorted(copies, key=lambda copy: (copy[0].compression, -copy[0].bytes))
    grouped = groupby(ordered, key=lambda copy: copy[0].compression)
    return " UNION ALL ".join(_read(compression, list(group), columns) for compression, group in grouped)


def longest_row(files: Iterable[StagedFile]) -> int:
    """Return an upper bound of the bytes of a row."""
    return max(file.row_bytes or ROW_BYTES for file in files)


def _read(compression: str, copies: list[Copy], columns: str) -> str:
    rows = READ_CSV.format(
        files=f"[{', '.join(_literal(str(path)) for _, path in copies)}]",
        columns=columns,
        compression=compression or "none",
        row_bytes=max(SHORT_ROW_BYTES, longest_row(file for file, _ in copies)),
    )
    return f"SELECT * FROM {rows}"  # noqa: S608


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"

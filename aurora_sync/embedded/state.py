"""State of the local stack that is kept between its runs: ports and credentials."""

from __future__ import annotations

import dataclasses
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from aurora_sync.errors import Kind, SourceError


@dataclass
class StackState:
    """Ports and credentials. The state is saved before a server is started with it."""

    base_port: int
    superuser_password: str
    password: str
    access_key: str
    secret_key: str
    elsewhere: str | None = None  # the parent folder of postgres/, if it is not the stack's directory

    @classmethod
    def new(cls, base_port: int) -> Self:
        """Make credentials for a stack that has none."""
        return cls(
            base_port=base_port,
            superuser_password=secrets.token_urlsafe(24),
            password=secrets.token_urlsafe(24),
            access_key=secrets.token_hex(10).upper(),
            secret_key=secrets.token_urlsafe(30),
        )

    @classmethod
    def load(cls, file: Path) -> Self | None:
        """Return the state of an earlier run; None if the file does not exist. Raises SourceError."""
        if not file.exists():
            return None
        try:
            return cls(**json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise SourceError(
                f"the state of the local stack cannot be read ({error})",
                where=str(file),
                hint=f"stop the servers of the stack, and delete {file.parent}",
                kind=Kind.USER,
            ) from error

    def save(self, file: Path) -> None:
        """Write a new file and rename it: after a crash, the file holds the old state or the new one."""
        aside = file.with_suffix(".new")
        aside.unlink(missing_ok=True)
        aside.touch(mode=0o600)
        aside.write_text(json.dumps(dataclasses.asdict(self), indent=1), encoding="utf-8")
        aside.rename(file)

"""Reading and writing one kind of JSON record: its version, its checksum, its fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.errors import UserError
from distill.records.seal import KEY, check_seal, sealed
from distill.records.shape import Form, check_shape
from distill.system.files import read_json, write_json


@dataclass(frozen=True)
class Kind:
    """A kind of record."""

    what: str
    """What people call it, such as ``student description``."""
    form: Form
    """What its fields must be."""
    version: int = 1
    """The newest that is read; a record that tells none is of version 1."""
    sealed_since: int | None = None
    """First version whose records all have a checksum; by default one that has none is told by its fields."""

    def read(self, path: Path, *fields: str) -> dict[str, Any]:
        """Content of a record, without its version and checksum.

        Args:
            path: its file.
            fields: without these it is not complete.

        Raises:
            UserError: it cannot be read, is of a newer version, or damaged.
        """
        return self.checked(path, read_json(path, self.what, *fields))

    def checked(self, path: Path, record: Any) -> dict[str, Any]:
        """A record that has been read, if it is one of this kind.

        Raises:
            UserError: it is of a newer version, or damaged.
        """
        version = record.get("version", 1) if isinstance(record, dict) else 1
        if not isinstance(version, int) or not 1 <= version <= self.version:
            raise UserError(
                f"{path} has format version {version}; this toolkit reads version {self.version}; use a newer one"
            )
        must = None if self.sealed_since is None else version >= self.sealed_since
        if isinstance(record, dict):
            check_seal(path, record, self.what, must=must)
        check_shape(path, self.what, record, self.form)
        return {name: value for name, value in record.items() if name not in ("version", KEY)}

    def write(self, path: Path, record: Mapping[str, Any], version: int | None = None) -> None:
        """Replace ``path`` by a record with its checksum, atomically and durably.

        Args:
            path: its file.
            record: its content.
            version: the oldest that knows all of it, so that older programs still read it; by default that of now.
        """
        write_json(path, sealed({"version": version or self.version, **record}))

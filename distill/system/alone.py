"""One process at a time works on a run or on rows: two would write over each other's rows and checkpoints."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from distill.errors import UserError
from distill.system.progress import console
from distill.system.runtime import processes


def refuse_several_processes(what: str) -> None:
    """Refuse to run under torchrun; ``what`` begins the sentence, such as ``a sweep``."""
    if processes() > 1:
        raise UserError(f"{what} runs in one process; start it without torchrun")


@contextlib.contextmanager
def alone(folder: Path, flag: str, lock: str = "run.lock") -> Iterator[None]:
    """Hold a folder, which is made if need be.

    Args:
        folder: of the run or the rows.
        flag: the setting that names the folder.
        lock: name of the file in it that is locked; it stays there.

    Raises:
        UserError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / lock).open("a") as file:  # not "w", which would touch the folder of a finished run
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another process is at work in {folder}; wait for it or choose another {flag}") from error
        except OSError as error:  # some file systems of clusters
            why = f"no file can be locked there ({error.strerror})"
            console.print(f"{folder}: {why}, so see to it that no other process is at work in it")
        yield

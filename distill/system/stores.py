"""Object stores (``s3://``, ``gs://``) and folders elsewhere, by fsspec: objects, and where copies of them lie here."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill.errors import UserError, first_line, nearest
from distill.system.files import replacing
from distill.system.files import sha256 as digest
from distill.system.trouble import FULL

SCHEMES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "file")
"""Of addresses that are read through a copy."""
HUB = "hf"
"""Of agents' addresses; it has a cache of its own."""
CACHE, LIMIT = "DISTILL_CACHE", "DISTILL_CACHE_GB"
DEFAULT_GB = 50.0
OPTIONS = {"use_listings_cache": False}
"""Of the file system: what others put there meanwhile must be seen."""
FOREIGN = ("botocore", "aiobotocore", "s3fs", "gcsfs", "google", "adlfs", "azure", "aiohttp", "fsspec")
"""Packages whose errors mean that a store cannot be used."""


def is_store(name: str | Path) -> bool:
    """Whether a name is an address of a store; a ``Path`` of one, with a single slash, too."""
    return str(name).partition(":/")[0] in SCHEMES and ":/" in str(name)


def is_below(name: str) -> bool:
    """Whether a name that was read somewhere is one of a file below a folder, and leads nowhere else."""
    return not name.startswith("/") and not {"", ".", ".."} & {*name.split("/")}


def is_inside(name: str) -> bool:
    """Whether a name that was read somewhere is one of a file in a folder itself."""
    return "/" not in name and is_below(name)


def require_store(name: str) -> None:
    """Refuse what is no address of a store.

    Raises:
        UserError: it is none.
    """
    if not is_store(name):
        raise UserError(f"{name} is no address of a store; write s3://bucket/path, gs://bucket/path or file:///path")


def refuse_unknown(name: str | Path) -> None:
    """Refuse an address of any other kind: it would be taken for a folder of that name here.

    Raises:
        UserError: naming the kinds that there are.
    """
    scheme, colon, _ = str(name).partition("://")
    if colon and re.fullmatch(r"\w[\w+.-]*", scheme) and scheme not in (*SCHEMES, HUB):
        known = ", ".join(f"{one}://" for one in (*SCHEMES, HUB))
        raise UserError(f"{name} is an address of an unknown kind{nearest(scheme.lower(), SCHEMES)}; known: {known}")


def address(name: str | Path) -> str:
    """The address in one spelling, without a slash at its end."""
    scheme, _, rest = str(name).partition(":/")
    rest = rest.lstrip("/") if scheme != "file" else "/" + rest.lstrip("/")
    return f"{scheme}://{rest.rstrip('/')}"


def cache_root() -> Path:
    """Where copies lie: ``DISTILL_CACHE``, else ``distill`` in ``XDG_CACHE_HOME`` or ``~/.cache``."""
    given = os.environ.get(CACHE)
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "distill"


def cache_limit() -> int:
    """Bytes that copies of shards may take: ``DISTILL_CACHE_GB``, by default 50 GB.

    Raises:
        UserError: that is no positive number.
    """
    text = os.environ.get(LIMIT, str(DEFAULT_GB))
    with contextlib.suppress(ValueError):
        if 0 < float(text) < 1e9:
            return int(float(text) * 1e9)
    raise UserError(f"{LIMIT} must be a positive number of gigabytes, got {text!r}")


def place_of(url: str) -> Path:
    """The folder here that copies of an address lie in."""
    name = re.sub(r"[^\w.-]", "_", url.rsplit("/", 1)[-1])
    return cache_root() / "stores" / f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{name}"


class Store:
    """Objects below an address.

    Args:
        url: such as ``s3://bucket/data/pong``.

    Raises:
        UserError: a package for it is missing, or it cannot be reached.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            from fsspec.core import url_to_fs
        except ImportError as error:
            raise UserError(f"{url}: stores need fsspec and s3fs; pip install 'atari-sobolev[stores]'") from error
        try:
            with self._reaching():
                found: tuple[Any, str] = url_to_fs(url, **OPTIONS)
        except ImportError as error:
            raise UserError(
                f"{url}: {first_line(error)}; pip install 'atari-sobolev[stores]' for s3://, gcsfs for gs://"
            ) from error
        self._fs, self._root = found
        self._here = url.startswith("file:")

    def is_file(self) -> bool:
        """Whether the address is an object, not a folder of objects."""
        with self._reaching():
            try:
                return bool(self._fs.info(self._root)["type"] == "file")
            except FileNotFoundError:
                return False

    def same(self, name: str, path: Path) -> bool:
        """Whether an object is known to be what a file is."""
        with self._reaching():
            try:
                told = self._fs.info(f"{self._root}/{name}")
            except FileNotFoundError:
                return False
            if int(told["size"]) != path.stat().st_size:
                return False
            if self._here:
                return Path(self._root, name).read_bytes() == path.read_bytes()
            with path.open("rb") as file:  # what S3 calls an object that came in one piece
                md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            return str(told.get("ETag", "")).strip('"') == md5

    def sizes(self, below: str = "") -> dict[str, int]:
        """Bytes of all objects below a folder, by name; one listing. Empty ones that only mark a folder are none.

        Raises:
            UserError: it cannot be reached, or an object has a name that leaves the folder.
        """
        with self._reaching():
            try:
                found = self._fs.find(f"{self._root}/{below}".rstrip("/"), detail=True)
            except FileNotFoundError:
                return {}
        files = {name: told for name, told in found.items() if not name.endswith("/") and name != self._root}
        sizes = {name.removeprefix(self._root).lstrip("/"): int(told["size"]) for name, told in files.items()}
        for name in sizes:
            if not is_below(name):
                raise UserError(
                    f"{self.url} has an object {name!r}, whose copy would leave its folder; remove it there"
                )
        return sizes

    def size(self, name: str) -> int | None:
        """Bytes of an object; None where there is none."""
        with self._reaching():
            try:
                return int(self._fs.info(f"{self._root}/{name}")["size"])
            except FileNotFoundError:
                return None

    def read(self, name: str) -> bytes | None:
        """Content of an object; None where there is none."""
        with self._reaching():
            try:
                content: bytes = self._fs.cat_file(f"{self._root}/{name}")
            except FileNotFoundError:
                return None
        return content

    def write(self, name: str, content: bytes) -> None:
        """Put an object, whole or not at all."""
        with self._reaching(), self._whole(name) as target:
            self._fs.pipe_file(target, content)

    def upload(self, path: Path, name: str) -> None:
        """Put a file, whole or not at all."""
        with self._reaching(), self._whole(name) as target:
            self._fs.put_file(str(path), target)

    def download(self, name: str, path: Path, sha256: str | None = None) -> None:
        """Fetch an object to a file, whole or not at all.

        Args:
            name: of the object.
            path: of the file.
            sha256: what its content must have.

        Raises:
            UserError: it is not there, or its content is another.
        """
        with replacing(path) as temporary:
            with self._reaching():
                try:
                    self._fs.get_file(f"{self._root}/{name}", str(temporary))
                except FileNotFoundError as error:
                    raise UserError(f"{self.url}/{name} is missing; push the folder again") from error
            if sha256 is not None and digest(temporary) != sha256:
                raise UserError(f"{self.url}/{name} does not match its checksum; remove it, and push it again")

    @contextlib.contextmanager
    def _whole(self, name: str) -> Iterator[str]:
        """Where to write: a store shows an object when it is whole, a folder shows a file at once."""
        target = f"{self._root}/{name}".rstrip("/")
        if not self._here:
            yield target
            return
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        with replacing(Path(target)) as temporary:
            yield str(temporary)

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except (UserError, ImportError):
            raise
        except Exception as error:
            foreign = type(error).__module__.partition(".")[0] in FOREIGN
            full = isinstance(error, OSError) and error.errno in FULL  # the disk here, not a store
            if full or (not foreign and not isinstance(error, OSError | ValueError)):
                raise
            raise UserError(
                f"{self.url} cannot be used: {first_line(error)}; look at its address, your credentials and the network"
            ) from error

"""A plain folder as a blob store: the embedded default, and the answer for devices without the blob module."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import json
import os
import time
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping, MutableSequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from itertools import islice
from pathlib import Path

from ripeloop import disk
from ripeloop.bloblease import FOLDER, Lease, folder_lease
from ripeloop.blobname import METADATA_SUFFIX, Blob, check_metadata, check_name, is_name
from ripeloop.errors import Changed, Denied, NotFound, Offline, Refused, RipeloopError

UNFINISHED = ".unfinished"
STALE_SECONDS = 3600.0
LOCKS = 16
PAGE = 100
SOME_BLOBS = "some_blobs"
"""The kind of Refused that ends a listing of all the other blobs."""


class FolderBlobs:
    """The blobs of one folder, which is made when needed. Safe to use from tasks, threads and processes at once.

    A folder that was there before and is missing now (a disk that is not mounted) is Offline, not empty. `trace` is
    what must be there: empty while nothing is known; `expect` says what an earlier process saw.

    What `put` returned from outlives a power cut: the file and its folder are on disk, the metadata before the blob.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._unfinished = folder / UNFINISHED
        self.trace = self._trace()
        self._clear_unfinished()

    @property
    def folder(self) -> Path:
        """Where the blobs are."""
        return self._folder

    def expect(self, trace: str) -> None:
        """It has been used before, by a process whose `trace` this was."""
        self.trace = trace or self.trace

    def path(self, name: str) -> Path:
        """Where the blob of that name is, or would be."""
        check_name(name)
        return self._folder / name

    async def put(
        self,
        name: str,
        data: bytes,
        metadata: Mapping[str, str] | None = None,
        content_type: str = "",  # noqa: ARG002 - a folder has no place for it
    ) -> bool:
        """Store `data`; the content type is not kept."""
        check_name(name)
        check_metadata(metadata or {})
        return await asyncio.to_thread(self._put, name, data, dict(metadata or {}))

    async def get(self, name: str) -> bytes:
        """The bytes stored under `name`."""
        check_name(name)
        return await asyncio.to_thread(self._get, name)

    async def list(self, prefix: str = "") -> AsyncIterator[Blob]:
        """The blobs whose names start with `prefix`, a hundred at a time.

        What cannot be looked at holds up no other: it is told at the end, as Refused of kind `some_blobs`.
        """
        failed: list[str] = []
        await asyncio.to_thread(self._check_there)
        found = self._walk("", prefix, failed)
        while page := await asyncio.to_thread(_page, found):
            for blob in page:
                yield blob
        await asyncio.to_thread(self._check_there)
        if failed:
            words = f"{len(failed)} names cannot be looked at, as {failed[0]}: is the disk sound?"
            raise Refused(words, kind=SOME_BLOBS)

    async def head(self, name: str) -> Blob:
        """What is known of `name`."""
        check_name(name)
        return await asyncio.to_thread(self._head, name)

    async def mark(self, name: str, metadata: Mapping[str, str], etag: str) -> str:
        """Replace all metadata, on disk for sure, unless somebody was quicker."""
        check_name(name)
        check_metadata(metadata)
        return await asyncio.to_thread(self._mark, name, dict(metadata), etag)

    async def delete(self, name: str) -> None:
        """Remove `name`."""
        check_name(name)
        await asyncio.to_thread(self._delete, name)

    @asynccontextmanager
    async def lease(
        self,
        name: str,
        by: str,
        lease_id: str = "",  # noqa: ARG002 - the lock ends with its process
        *,
        take: bool = False,  # noqa: ARG002 - a lock cannot be taken from a process that lives
    ) -> AsyncIterator[Lease]:
        """Hold a lock of a file that no listing shows."""
        check_name(name)
        path = self._folder / FOLDER / f"{name}.lock"
        with ExitStack() as held:
            with _named_errors(name):
                self._make_store()
                _make_folder(path.parent)
                lease = held.enter_context(folder_lease(path, by))
            yield lease

    def _put(self, name: str, data: bytes, metadata: dict[str, str]) -> bool:
        path = self._folder / name
        with _named_errors(name):
            if path.is_file():
                return False
            self._make_store()
            _make_folder(path.parent)
            with (
                self._written(json.dumps(metadata).encode()) as unfinished_metadata,
                self._written(data) as unfinished,
                self._only_one(name),
            ):
                if path.is_file():
                    return False
                # a writer that was killed may have left metadata without a blob: nobody sees it
                unfinished_metadata.replace(_metadata_path(path))
                disk.sync(path.parent)
                os.link(unfinished, path)
                disk.sync(path.parent)
        return True

    def _make_store(self) -> None:
        try:
            _make_folder(self._unfinished)
        except (FileExistsError, NotADirectoryError) as error:
            raise Denied(f"the blob folder {self._folder} cannot be made: part of its path is a file") from error
        self.trace = UNFINISHED

    def _trace(self) -> str:
        if _is_there(self._unfinished):
            return UNFINISHED
        return "." if _is_there(self._folder) else ""

    def _check_there(self) -> None:
        """Raises Offline."""
        if self.trace and not _is_there(self._folder / self.trace):
            raise Offline(f"the blob folder {self._folder} is missing or empty: is its disk mounted?", kind="away")
        if self.trace != UNFINISHED:  # once that was there, a bare folder is not enough: it may be a mount point
            self.trace = self._trace() or self.trace

    def _missing(self, name: str) -> NotFound:
        """Raises Offline where all of the store is missing."""
        self._check_there()
        return NotFound(f"the folder holds no blob {name!r}")

    def _head(self, name: str) -> Blob:
        with _named_errors(name):
            found = self._blob(name)
            if found is None:
                raise self._missing(name)
            return found

    def _get(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise self._missing(name) from None
        except OSError as error:
            raise _in_our_words(error, name) from error

    def _mark(self, name: str, metadata: dict[str, str], etag: str) -> str:
        path = self._folder / name
        self._head(name)
        with _named_errors(name):
            self._make_store()
            with self._written(json.dumps(metadata).encode()) as unfinished, self._only_one(name):
                found = self._blob(name)
                if found is None:
                    raise self._missing(name)
                if found.etag != etag:
                    raise Changed("somebody changed the blob since it was read: read it again")
                unfinished.replace(_metadata_path(path))
                disk.sync(path.parent)
        return _etag(json.dumps(metadata).encode())

    def _delete(self, name: str) -> None:
        path = self._folder / name
        with _named_errors(name):
            if not path.is_file():
                self._check_there()
                return
            with self._only_one(name):
                path.unlink(missing_ok=True)
                _metadata_path(path).unlink(missing_ok=True)

    def _walk(self, folder: str, prefix: str, failed: MutableSequence[str]) -> Iterator[Blob]:
        """The blobs below `folder` (empty, or ending in a slash) that start with `prefix`; `failed` gets the others."""
        with _named_errors(folder):
            names = _names(self._folder / folder, folder)
        for name in names:
            try:
                if name.endswith("/"):
                    if name.startswith(prefix) or prefix.startswith(name):
                        yield from self._walk(name, prefix, failed)
                elif name.startswith(prefix) and is_name(name) and (blob := self._blob(name)):
                    yield blob
            except (OSError, Offline, Refused) as error:
                failed.append(f"{name} ({getattr(error, 'strerror', None) or error})")

    def _blob(self, name: str) -> Blob | None:
        path = self._folder / name
        try:
            size = path.stat().st_size
        except (FileNotFoundError, NotADirectoryError):  # deleted between the listing and the look
            return None
        text = b""
        try:
            text = _metadata_path(path).read_bytes()
            return Blob(name, size, dict(json.loads(text)), etag=_etag(text))
        except (FileNotFoundError, ValueError, TypeError):  # a file that `put` did not write is a blob too
            return Blob(name, size, etag=_etag(text))

    @contextmanager
    def _written(self, data: bytes) -> Iterator[Path]:
        """A file that holds `data` for sure, and is gone afterwards unless it was moved away."""
        path = self._unfinished / f"{os.getpid()}.{time.monotonic_ns()}.{os.urandom(4).hex()}.tmp"
        try:
            with path.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield path
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def _only_one(self, name: str) -> Iterator[None]:
        """One writer at a time for `name`: blob and metadata are of the same put."""
        lock = os.open(self._unfinished / f"{zlib.crc32(name.encode()) % LOCKS}.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _clear_unfinished(self) -> None:
        """Remove what killed writers left half written; a file still being written is younger than that."""
        for path in self._unfinished.glob("*.tmp"):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > STALE_SECONDS:
                    path.unlink()


def _page(found: Iterator[Blob]) -> list[Blob]:
    return list(islice(found, PAGE))


def _names(path: Path, folder: str) -> list[str]:
    """The names in `path` in the order of whole blob names, in which `a-b` comes before `a/b`."""
    try:
        with os.scandir(path) as entries:
            names = [f"{folder}{entry.name}{'/' if _is_folder(entry) else ''}" for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(name for name in names if not name.startswith(f"{folder}."))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # who looks at it is told why
        return False


def _etag(metadata: bytes) -> str:
    """The bytes of a blob never change: its metadata tells one state from another."""
    return hashlib.blake2b(metadata, digest_size=8).hexdigest()


def _is_there(folder: Path) -> bool:
    try:
        return folder.is_dir()
    except OSError:
        return False


def _metadata_path(path: Path) -> Path:
    return path.with_name(path.name + METADATA_SUFFIX)


def _make_folder(path: Path) -> None:
    """Make `path` with its parents, on disk for sure."""
    if path.is_dir():
        return
    _make_folder(path.parent)
    with suppress(FileExistsError):
        path.mkdir()
    disk.sync(path.parent)


@contextmanager
def _named_errors(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _in_our_words(error, name) from error


def _in_our_words(error: OSError, name: str) -> RipeloopError:
    if isinstance(error, FileExistsError | NotADirectoryError):
        return Refused(f"{name!r} cannot be kept: part of its name is another blob's name")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Denied(f"the blob folder may not be used ({error.strerror}): let this user write to it")
    if error.errno == errno.ENAMETOOLONG:
        return Refused(f"{name!r} is too long for this file system")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Offline(f"the blob folder has no room ({error.strerror}): free some, or give it more", kind="full")
    return Offline(f"the blob folder cannot be used now ({error.strerror}): is the disk full?")

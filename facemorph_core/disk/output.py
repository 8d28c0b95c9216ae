"""Writing results: refused early, written whole or not at all, never over a file unasked."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from facemorph_core.disk.names import fitting
from facemorph_core.disk.private import opened_privately
from facemorph_core.errors import OutputError

MOST_NAMED, LONGEST_STEM = 4, 60
"""Photos in the name of what is made of them, and bytes of each."""
LONGEST_TEMPORARY = 80
"""Bytes of a file's name in the name that it has until it is whole."""
TOO_LONG = "most disks take names of 255 bytes; a letter with an accent has two, an emoji four"
FULL = {errno.ENOSPC, errno.EDQUOT}
NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
"""What a file system says that has none."""
_CANNOT_SYNC_FOLDERS = {errno.EINVAL, errno.ENOTSUP}


def check_writable(path: Path, *, force: bool = False, inputs: Iterable[Path] = ()) -> None:
    """Refuse ``path`` now for what would stop `written_whole` after the work is done.

    ``force`` replaces what exists, but never one of the ``inputs``, by whatever name: what it is
    made from may be all that there is of it.
    """
    with reported_output(path):
        is_folder, exists = path.is_dir(), path.exists()
    if is_folder:
        raise OutputError(f"{path} is a folder; a file name is needed")
    if exists:
        check_apart([path], inputs)
        if is_pipe(path):  # nothing in it is lost
            return
        if not path.is_file():
            raise OutputError(f"{path} is neither a file nor a pipe")
    if exists and not force:
        raise OutputError(
            f"{path} exists already", hint="choose another name with -o, or overwrite with --force"
        )
    check_folder(path.parent)


def is_pipe(path: Path) -> bool:
    """Whether it takes what is written and keeps nothing: a named pipe, a terminal, /dev/null."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def check_apart(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Refuse an output that is an input, also by a link to it or by a name in other case.

    Raises:
        OutputError: with the first that is.
    """
    read = {_identity(path) for path in inputs} - {None}
    for path in outputs:
        if _identity(path) in read:
            raise OutputError(
                f"{path} is read here, and would be replaced by what is made from it",
                hint="choose another name for the output",
            )


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file it is, whatever its name; None for what is no file yet."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # it does not exist, or no file can have such a name
        return None
    return found.st_dev, found.st_ino


def named_after(photos: Sequence[Path]) -> str:
    """Short enough for a file's name: anna-ben-carla, or anna-and-39-more."""
    stems = [fitting(photo.stem, LONGEST_STEM) for photo in photos]
    if len(stems) > MOST_NAMED:
        return f"{stems[0]}-and-{len(stems) - 1}-more"
    return "-".join(stems)


def check_folder(folder: Path) -> None:
    """Refuse a folder that does not exist or takes no files."""
    if not folder.is_dir():
        raise OutputError(f"the folder {folder} does not exist", hint=f"mkdir -p {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(
            f"the folder {folder} is not writable", hint="choose another place with -o"
        )


@contextlib.contextmanager
def written_whole(path: Path, *, force: bool = False, private: bool = False) -> Iterator[Path]:
    """A temporary name beside ``path`` (same suffix) that becomes ``path`` on success.

    On any failure nothing is left behind and what ``path`` held before is untouched. ``private``
    makes the file first, empty, for its owner alone. A pipe is not replaced: it is sent the file
    once that is whole.

    Raises:
        OutputError: it exists and ``force`` is off, the disk is full, or the place is unwritable.
    """
    check_writable(path, force=force)
    if is_pipe(path):
        with _sent_whole(path) as temporary:
            yield temporary
        return
    stem = fitting(path.stem, LONGEST_TEMPORARY)
    temporary = path.with_name(f".{stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        if private:
            opened_privately(temporary, "xb").close()
        yield temporary
        _sync(temporary)
        temporary.replace(path)
    except OSError as error:
        raise output_error(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _sent_whole(pipe: Path) -> Iterator[Path]:
    with reported_output(pipe), tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / f"whole{pipe.suffix}"
        yield temporary
        with temporary.open("rb") as made, pipe.open("wb") as taken:
            shutil.copyfileobj(made, taken)


@contextlib.contextmanager
def locked(
    file: Path, *, mode: int | None = None, timeout: float = -1, hint: str | None = None
) -> Iterator[None]:
    """The lock ``file``, waited for (``timeout`` in seconds; negative: without an end) and held.

    It is made with ``mode``, or as the umask says, so that a group may share a folder. ``hint`` is
    the way out where nothing can be written.

    Raises:
        OutputError: there can be none: no file can be made there, or the file system has no locks.
        filelock.Timeout: another process holds it.
    """
    lock = FileLock(file, timeout) if mode is None else FileLock(file, timeout, mode)
    try:
        lock.acquire()
    except Timeout:
        raise
    except OSError as error:
        if error.errno in NO_LOCKS:
            raise OutputError(
                f"{file} cannot be locked: {error.strerror or error}",
                hint="choose a folder on a disk of this machine, or mount the share with locks",
            ) from error
        told = output_error(error, file.parent)
        told.hint = hint or told.hint
        raise told from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def reported_output(out: Path, *, hint: str | None = None) -> Iterator[None]:
    """Turn a failure to write (full disk, no permission) into an OutputError that names ``out``."""
    try:
        yield
    except OSError as error:
        told = output_error(error, out)
        told.hint = hint or told.hint
        raise told from error


def output_error(error: OSError, path: Path | str) -> OutputError:
    """What went wrong with writing ``path``, in words."""
    if error.errno in FULL:
        return OutputError(
            f"{path} cannot be written: the disk is full",
            hint="free some space or choose another place",
        )
    hint = TOO_LONG if error.errno == errno.ENAMETOOLONG else None
    return OutputError(f"{path} cannot be written: {error.strerror or error}", hint=hint)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder as durable as what the files hold.

    As far as its file system can: shares of Windows machines and some of FUSE sync no folders, and
    Windows itself opens none.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC_FOLDERS:
            raise
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDWR)  # Windows syncs nothing that is open to be read alone
    except PermissionError:  # an umask that keeps from writing oneself
        descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

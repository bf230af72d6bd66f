"""Writing files so that a reader never sees half of one, and no two writers meet."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors.torch import save
from torch import Tensor


@contextmanager
def alone_in(folder: Path | None) -> Iterator[None]:
    """Make the folder and hold its lock: no other process writes this run until we leave. A process that is killed releases it."""
    if folder is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0, thread_local=False)  # an iterator may be closed on another thread
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(
            f"{folder} is being written by another fit. Wait until that one ends, or stop it, or choose another folder."
        ) from None
    try:
        yield
    finally:
        with suppress(PermissionError):  # Windows: filelock deletes the file when it lets go
            (folder / ".lock").unlink(missing_ok=True)  # while it is held: afterwards it could be the next writer's
        lock.release()


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path` that becomes `path` when the block ends well, and vanishes when it does not."""
    with _draft(path) as temporary, _named(path):
        yield temporary
        _settle(temporary)
        os.replace(temporary, path)


def write_text(path: str | Path, text: str) -> None:
    write_texts({path: text})


def write_texts(texts: Mapping[str | Path, str]) -> None:
    """Files that belong together: each is whole on the disk before the first, in this order, takes its name.

    A full disk leaves all as they were; only a process that ends between two names leaves new beside old.
    """
    with ExitStack() as stack:
        drafts = {path: stack.enter_context(_draft(path)) for path in texts}
        for path, draft in drafts.items():
            with _named(path):
                draft.write_text(texts[path], encoding="utf-8")
                _settle(draft)
        for path, draft in drafts.items():
            with _named(path):
                os.replace(draft, path)


@contextmanager
def _draft(path: str | Path) -> Iterator[Path]:
    """An empty file beside `path`, gone when the block ends unless it got another name."""
    path = Path(path)
    with _named(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _settle(temporary: Path) -> None:
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.chmod(0o644)


@contextmanager
def _named(path: str | Path) -> Iterator[None]:
    """Errors in the caller's words, not by the temporary name."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def save_tensors(path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    with atomic(path) as temporary:
        # written by Python, so that a full disk is an OSError here too
        temporary.write_bytes(save({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, metadata))

"""Writing files so that a reader never sees half of one, and no two writers meet."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors.torch import save
from torch import Tensor


@contextmanager
def alone_in(folder: Path | None) -> Iterator[None]:
    """Nobody else writes the run in this folder, which is made, meanwhile. A process that is killed lets go of it."""
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
    path = Path(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None  # in the caller's words, not by the temporary name
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_tensors(path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    with atomic(path) as temporary:
        # written by Python, so that a full disk is an OSError here too
        temporary.write_bytes(save({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, metadata))

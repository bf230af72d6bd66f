"""Machine code on disk: what was compiled once need not be compiled again.

The kernels of one fit take half a minute to compile. Numba keeps machine code in NUMBA_CACHE_DIR where that is set, else beside the
package, else in the user's cache folder: the first of them that can be written. Here three things are different.

    read only     Code that lies beside the package is read even where nothing can be written there, as in an image that was built with
                  `separatrix doctor --warmup`.
    nowhere       Where no folder can be written, a disk is full or a file is damaged, a kernel is compiled again; it never fails.
    stale         Code belongs to the text of a kernel's file and of the files that it imports, so that after an edit or an upgrade no
                  old code runs. Numba looks at the first of these only.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import (
    Cache,
    CompileResultCacheImpl,
    InTreeCacheLocator,
    UserProvidedCacheLocator,
    UserWideCacheLocator,
    _Cache,
)
from numba.core.dispatcher import Dispatcher

KERNELS = Path(__file__).parent
IMPORTED = re.compile(r"^from separatrix\.recurrence\.kernels\.(\w+) import", re.MULTILINE)

log = logging.getLogger("separatrix")


def njit(function: Callable | None = None, *, cache: bool = False, **options: Any) -> Any:
    """Numba's `njit`, with machine code kept as above."""
    if function is None:
        return lambda function: njit(function, cache=cache, **options)
    compiled = numba.njit(**options)(function)
    if cache and isinstance(compiled, Dispatcher):  # with NUMBA_DISABLE_JIT it is the function itself
        compiled._cache = Kept(function)  # type: ignore[attr-defined]
    return compiled


@lru_cache(maxsize=256)
def stamp(path: str) -> str:
    """Of the text of a kernel's file and of the kernels' files that it imports, and these in turn."""
    texts: dict[Path, str] = {}
    left = [Path(path)]
    while left:
        if (file := left.pop()) not in texts:
            texts[file] = file.read_text(encoding="utf-8")
            left += [KERNELS / f"{name}.py" for name in IMPORTED.findall(texts[file])]
    return hashlib.sha256("".join(texts[file] for file in sorted(texts)).encode()).hexdigest()


class _Stamped:
    _py_file: str

    def get_source_stamp(self) -> str:
        return stamp(self._py_file)


class _Asked(_Stamped, UserProvidedCacheLocator): ...


class _Beside(_Stamped, InTreeCacheLocator): ...


class _Home(_Stamped, UserWideCacheLocator): ...


class _Read(_Beside):
    def ensure_cache_path(self) -> None:
        """It is only read."""


class _Written(CompileResultCacheImpl):
    _locator_classes = [_Asked, _Beside, _Home]  # noqa: RUF012  (Numba's)


class _ReadOnly(CompileResultCacheImpl):
    _locator_classes = [_Read]  # noqa: RUF012


class _InWritten(Cache):
    _impl_class = _Written  # type: ignore[assignment]


class _InReadOnly(Cache):
    _impl_class = _ReadOnly  # type: ignore[assignment]


class Kept(_Cache):
    """Where the machine code of one function is."""

    def __init__(self, function: Callable):
        self.written: Cache | None = None
        with suppress(RuntimeError):  # no folder can be written
            self.written = _InWritten(function)
        beside = _InReadOnly(function)
        self.places: list[Cache] = [self.written] if self.written is not None else []
        if self.cache_path != beside.cache_path:
            self.places.append(beside)

    @property
    def cache_path(self) -> str | None:
        return None if self.written is None else self.written.cache_path

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        for place in self.places:
            try:
                found = place.load_overload(sig, target_context)
            except Exception:  # a damaged pickle raises whatever it likes
                found = None
                if place is self.written:
                    with suppress(OSError):
                        place.flush()
            if found is not None:
                return found
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        if self.written is None:
            _say("no folder that can be written")
            return
        try:
            self.written.save_overload(sig, data)
        except OSError as error:
            _say(f"{self.cache_path}: {(error.strerror or 'no place').lower()}")

    def enable(self) -> None:
        for place in self.places:
            place.enable()

    def disable(self) -> None:
        for place in self.places:
            place.disable()

    def flush(self) -> None:
        if self.written is not None:
            self.written.flush()


@lru_cache(maxsize=1)  # once, for however many kernels
def _say(why: str) -> None:
    log.warning("Compiled kernels are not kept for the next start (%s). Set NUMBA_CACHE_DIR to a folder that can be written.", why)


def where() -> str:
    """Where machine code is kept here, in words."""
    folder, beside = Kept(njit).cache_path, KERNELS / "__pycache__"
    read = any(beside.glob("*.nbi"))
    if folder is None:
        start = f"{beside}, which cannot be written: what it lacks" if read else "nowhere: what it needs"
        return f"{start} each process compiles again; set NUMBA_CACHE_DIR to a folder that can be written"
    return f"{folder}, and read in {beside} too" if read and Path(folder) != beside else folder

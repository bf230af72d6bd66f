"""Files that gzip, bzip2 or xz has packed: my.csv.gz holds my.csv. The last suffix says by what, the one before it what is inside."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from pathlib import Path

UNPACK = {".gz": gzip.decompress, ".bz2": bz2.decompress, ".xz": lzma.decompress}


def inside(path: str | Path) -> Path:
    """The name of what is packed in a file, or its own."""
    path = Path(path)
    return path.with_suffix("") if path.suffix.lower() in UNPACK else path


def unpacked(raw: bytes, path: str | Path) -> bytes:
    """What is packed in `raw`, the bytes of a file of this name."""
    suffix = Path(path).suffix.lower()
    if suffix not in UNPACK:
        return raw
    try:
        return UNPACK[suffix](raw)
    except (OSError, ValueError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"{path} is damaged or no {suffix} file ({str(error).rstrip('.')}). Use another copy, or unpack it.") from None

"""Arrays that live in files, for what may be larger than the memory."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

#: Bytes that are written at once where a file system reserves none.
_PIECE = 2**20


class Arrays(dict[str, "NDArray[Any]"]):
    """Arrays that are kept in one compressed file, by name."""


def disk_array(path: Path, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
    """An array of zeros in a new file.

    Its bytes are reserved before anything is written: a file with holes would end the process, by a signal,
    where a disk fills up later. Raises ``OSError`` where there is no room.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    try:
        with path.open("wb") as stream:
            _reserve(stream, size)
    except OSError:
        path.unlink(missing_ok=True)  # what was reserved so far would keep the disk full
        raise
    return np.memmap(path, dtype, "r+", shape=tuple(shape))


def _reserve(stream: BinaryIO, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(stream.fileno(), 0, size)
            return
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # a file system that reserves nothing
                raise OSError(error.errno, error.strerror, stream.name) from None
    for start in range(0, size, _PIECE):
        stream.write(bytes(min(_PIECE, size - start)))

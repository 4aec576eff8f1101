"""What files take on the disk, hard links counted once, and what removing them gives back."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

_BLOCK = 512  # bytes of st_blocks, whatever the file system's own blocks are


@dataclass
class Usage:
    """Files and folders by device and inode."""

    #: (device, inode) -> (bytes on the disk, names that the file has, names counted here)
    inodes: dict[tuple[int, int], tuple[int, int, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path) -> Self:
        """A file, or a folder with all below; links are not followed, and what is gone counts nothing."""
        usage = cls()
        usage._add(path)
        return usage

    @classmethod
    def together(cls, usages: Iterable[Usage]) -> Self:
        """Several places, none of which lies in another."""
        whole = cls()
        for usage in usages:
            for inode, (size, names, here) in usage.inodes.items():
                before = whole.inodes.get(inode, (0, 0, 0))[2]
                whole.inodes[inode] = (size, names, before + here)
        return whole

    @property
    def bytes(self) -> int:
        """What all of it takes on the disk."""
        return sum(size for size, _, _ in self.inodes.values())

    @property
    def freed(self) -> int:
        """What the disk has more of once all of it is removed: a file with another name elsewhere stays."""
        return sum(size for size, names, here in self.inodes.values() if here >= names)

    def _add(self, path: Path) -> None:
        try:
            known = path.lstat()
            folder = stat.S_ISDIR(known.st_mode)
            below = [Path(entry.path) for entry in os.scandir(path)] if folder else []
        except FileNotFoundError:  # another process has just removed it
            return
        inode = (known.st_dev, known.st_ino)
        names = 1 if folder else known.st_nlink  # a folder's count is of the folders in it
        here = self.inodes.get(inode, (0, 0, 0))[2] + 1
        self.inodes[inode] = (known.st_blocks * _BLOCK, names, here)
        for each in below:
            self._add(each)

"""What a cache takes on the disk while its daemon writes, deletes and moves its files."""

import os

from .processes import open_files


def allocated_bytes(cache, pid):
    """What the cache folder takes, files included that are deleted but open in the daemon.

    The files cannot be asked all at once, and what left one may be in another by then, so that a plain sum would count
    it twice. Each is asked twice, and the less counts: no more than there was in between.
    """
    first, second = (_allocation(cache, pid) for _ in range(2))
    return sum(min(first[inode], second[inode]) for inode in first.keys() & second.keys())


def _allocation(cache, pid):
    """inode -> bytes."""
    found = {}

    def note(status):
        found[status.st_dev, status.st_ino] = status.st_blocks * 512

    for folder, _, names in os.walk(cache):
        for name in names:
            try:
                note(os.lstat(os.path.join(folder, name)))
            except FileNotFoundError:
                pass
    if pid is not None:
        for path, link in open_files(pid):
            try:
                # Not of every file: that of a mount may be closed to us, or hang.
                if path.startswith(f"{cache}/") and (status := os.stat(link)).st_nlink == 0:
                    note(status)
            except FileNotFoundError:
                pass
    return found

"""Many small reads past the kernel's cache, each compared with the same range of a flat copy.

usage: many_reads.py SEED COUNT MOUNTED_FILE COPY BEGIN END

Reads 4 KiB at aligned places of [BEGIN, END) with O_DIRECT, so that each is a request to the daemon. Exits 1 at the
first difference.
"""

import mmap
import os
import pathlib
import random
import sys

SIZE = 4096


def main():
    seed, count, mounted, copy, begin, end = sys.argv[1:]
    rng = random.Random(seed)
    truth = pathlib.Path(copy).read_bytes()
    descriptor = os.open(mounted, os.O_RDONLY | os.O_DIRECT)
    buffer = mmap.mmap(-1, SIZE)
    first, blocks = int(begin) // SIZE, (int(end) - int(begin)) // SIZE
    for _ in range(int(count)):
        offset = (first + int(rng.random() * blocks)) * SIZE
        got = os.preadv(descriptor, [buffer], offset)
        if got != SIZE or buffer[:] != truth[offset:offset + SIZE]:
            sys.exit(f"seed {seed}: {mounted} at {offset}: {got} bytes, not the right ones")


main()

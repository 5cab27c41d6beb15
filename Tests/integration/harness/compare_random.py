"""Reads many random ranges of mounted files and compares each with the same range of a flat copy.

usage: compare_random.py pread|mmap SEED COUNT MOUNTED_FOLDER COPY_FOLDER

Exits 1 at the first difference and says where it is. A process of its own, because a page fault in a mapped file
holds Python's lock.
"""

import mmap
import os
import pathlib
import random
import sys

MIB = 1 << 20


def random_range(rng, size):
    """(offset, length): mostly small and anywhere; also large ones, unaligned ones, and those at and past the end."""
    length = rng.choice([1, 7, 512, 4096, 4097, 65_536, 131_072, rng.randrange(1, MIB), 2 * MIB])
    kind = rng.randrange(10)
    if kind == 0:
        offset = max(0, size - rng.randrange(0, 2 * length))  # over the end
    elif kind == 1:
        offset = size + rng.randrange(0, 2 * MIB)  # at or past the end
    elif kind == 2:
        offset = rng.randrange(size // MIB + 1) * MIB  # where a block may begin
    elif kind == 3:
        offset = max(0, rng.randrange(size // MIB + 1) * MIB - rng.randrange(1, length + 1))  # across that
    else:
        offset = rng.randrange(size)
    return offset, length


def main():
    way, seed, count, mounted, copy = sys.argv[1:]
    rng = random.Random(f"{way}/{seed}")
    files = []
    for path in sorted(pathlib.Path(copy).iterdir()):
        descriptor = os.open(pathlib.Path(mounted, path.name), os.O_RDONLY)
        truth = path.read_bytes()
        assert os.fstat(descriptor).st_size == len(truth), f"{path.name}: has another size than its copy"
        mapped = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) if way == "mmap" else None
        files.append((path.name, descriptor, mapped, truth))
    for step in range(int(count)):
        name, descriptor, mapped, truth = rng.choice(files)
        offset, length = random_range(rng, len(truth))
        got = os.pread(descriptor, length, offset) if mapped is None else mapped[offset:offset + length]
        if got != truth[offset:offset + length]:
            wanted = truth[offset:offset + length]
            first = next((i for i, pair in enumerate(zip(got, wanted)) if pair[0] != pair[1]),
                         min(len(got), len(wanted)))
            sys.exit(f"seed {seed} step {step}: {name} at {offset} for {length}: got {len(got)} bytes, wanted "
                     f"{len(wanted)}, first difference at {offset + first}")


main()

"""The inventory of a soak: chunks of awkward and of ordinary sizes, random bytes and real Parquet.

Several times as many bytes as the cache holds, and one chunk alone larger than it. Small ones too: some are always
cached whole, which is what the kernel may read by itself, and they are more than the daemon keeps open, so that it has
to open and to close files all the time.
"""

import random

from harness.inventory import entry, make_inventories, write_manifest

KIB, MIB = 1 << 10, 1 << 20
PREFIX = "soak/data/"
# Around a block (64 KiB), a segment (1 MiB) and a chunk that is fetched at once (4 MiB); then large ones.
SIZES = [0, 1, 4095, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, MIB - 1, MIB, MIB + 1, 3 * MIB + 17, 4 * MIB, 4 * MIB + 1,
         7 * MIB + 4097, 12 * MIB, 24 * MIB + 333, 40 * MIB]
SMALL_CHUNKS, SMALL_SIZES = 40, range(1, 200 * KIB)
PARQUET_CHUNKS, PARQUET_MIB = 4, 6


def make(root, seed):
    """(the inventory, {name: [(start, end) of each column of each row group]} of the Parquet chunks)."""
    rng = random.Random(f"{seed}/chunks")
    files = []
    for number, size in enumerate(SIZES + rng.choices(SMALL_SIZES, k=SMALL_CHUNKS)):
        files.append(entry(root, f"{PREFIX}{number:02}-{size}.bin", rng.randbytes(size)))
    parquet = make_inventories(root / "made", "--csv-chunks", 0, "--parquet-chunks", PARQUET_CHUNKS, "--parquet-mb",
                               PARQUET_MIB, "--seed", seed % 1000, name="soak")[1]
    columns = {}
    for name, path in parquet.chunks.items():
        files.append(entry(root, PREFIX + name, path.read_bytes()))
        columns[name] = column_ranges(path)
    rng.shuffle(files)
    return write_manifest(root, files, name="soak", fileFormat="Parquet"), columns


def column_ranges(path):
    import pyarrow.parquet

    metadata = pyarrow.parquet.read_metadata(path)
    ranges = []
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            column = metadata.row_group(group).column(number)
            start = column.dictionary_page_offset or column.data_page_offset
            ranges.append((start, start + column.total_compressed_size))
    return ranges

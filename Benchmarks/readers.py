"""The readers among the scenes that are Python programs; each prints an answer that can be compared.

usage: readers.py columns FOLDER | footer FILE | random FILE
"""

import hashlib
import os
import random
import sys


def columns(folder):
    """What an inventory is most often asked: objects and bytes by storage class, from 2 of the 11 columns."""
    import duckdb

    duckdb.sql("SET enable_progress_bar = false")
    print(duckdb.sql(
        "SELECT storage_class, count(*), sum(size) "
        f"FROM read_parquet('{folder}/*.parquet') GROUP BY 1 ORDER BY 1").fetchall())


def footer(path):
    import pyarrow.parquet

    print(pyarrow.parquet.ParquetFile(path).metadata.num_rows)


def random_reads(path, count=60, size=64 << 10):
    """Reads at places without order, the same ones each time."""
    places = random.Random(5)
    digest = hashlib.md5()
    file = os.open(path, os.O_RDONLY)
    blocks = os.fstat(file).st_size // size
    for _ in range(count):
        digest.update(os.pread(file, size, places.randrange(blocks) * size))
    print(digest.hexdigest())


if __name__ == "__main__":
    {"columns": columns, "footer": footer, "random": random_reads}[sys.argv[1]](sys.argv[2])

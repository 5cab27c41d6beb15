"""What one kind of reader gets from the chunks in a folder, as text to compare.

usage: read_as.py READER FOLDER

Each reader runs in a process of its own: some map files and fault pages in while they hold Python's lock, so that a
hung mount would stop the whole test run.
"""

import hashlib
import pathlib
import subprocess
import sys


def zcat(folder):
    return shell("zcat", *sorted(folder.glob("*.csv.gz")))


def cat(folder):
    return shell("cat", *sorted(folder.iterdir()))


def shell(*command):
    """MD5 and length of what the command prints, and the command's own success."""
    digest, length = hashlib.md5(), 0
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        for piece in iter(lambda: process.stdout.read(1 << 20), b""):
            digest.update(piece)
            length += len(piece)
    if process.returncode:
        sys.exit(f"{command[0]} exited {process.returncode}")
    return digest.hexdigest(), length


def md5sum(folder):
    output = subprocess.run(["md5sum", *sorted(folder.iterdir())], check=True, stdout=subprocess.PIPE, text=True)
    return [(line.split()[0], pathlib.Path(line.split()[1]).name) for line in output.stdout.splitlines()]


DUCKDB_SQL = """select storage_class, count(*), sum(size::bigint), bit_xor(hash(key, version_id, e_tag, size))
from {} group by all order by all"""
CSV_NAMES = ["bucket", "key", "version_id", "is_latest", "is_delete_marker", "size", "last_modified_date", "e_tag",
             "storage_class", "is_multipart_uploaded", "encryption_status"]


def duckdb_csv(folder):
    import duckdb

    columns = {name: "varchar" for name in CSV_NAMES}
    # Quoted in S3's CSV, an empty field still means that there is none.
    source = f"read_csv('{folder}/*.csv.gz', header = false, columns = {columns}, nullstr = '', " \
        "allow_quoted_nulls = true, auto_detect = false, delim = ',', quote = '\"', escape = '\"')"
    return duckdb.sql(DUCKDB_SQL.format(source)).fetchall()


def duckdb_parquet(folder):
    import duckdb

    return duckdb.sql(DUCKDB_SQL.format(f"'{folder}/*.parquet'")).fetchall()


def table_digest(table):
    """Of every value, whatever the chunking of an Arrow table."""
    import pyarrow
    import pyarrow.ipc

    sink = pyarrow.BufferOutputStream()
    table = table.combine_chunks()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return table.num_rows, hashlib.md5(sink.getvalue()).hexdigest()


def pyarrow_csv(folder):
    import pyarrow
    import pyarrow.csv

    tables = [
        pyarrow.csv.read_csv(path, read_options=pyarrow.csv.ReadOptions(column_names=CSV_NAMES))
        for path in sorted(folder.glob("*.csv.gz"))
    ]
    return table_digest(pyarrow.concat_tables(tables, promote_options="permissive"))


def pyarrow_parquet(folder):
    import pyarrow.dataset

    return table_digest(pyarrow.dataset.dataset(folder, format="parquet").to_table())


def pyarrow_parquet_2_columns(folder):
    import pyarrow.dataset

    return table_digest(pyarrow.dataset.dataset(folder, format="parquet").to_table(columns=["storage_class", "size"]))


def polars_csv(folder):
    import polars

    frames = [
        polars.read_csv(path, has_header=False, new_columns=CSV_NAMES, infer_schema=False)
        for path in sorted(folder.glob("*.csv.gz"))
    ]
    return table_digest(polars.concat(frames).to_arrow())


def polars_parquet(folder):
    import polars

    return table_digest(polars.scan_parquet(f"{folder}/*.parquet").collect().to_arrow())


def pandas_csv(folder):
    import pandas

    return pandas_digest(
        pandas.read_csv(path, header=None, names=CSV_NAMES, dtype=str) for path in sorted(folder.glob("*.csv.gz")))


def pandas_parquet(folder):
    import pandas

    return pandas_digest(pandas.read_parquet(path) for path in sorted(folder.glob("*.parquet")))


def pandas_digest(frames):
    import pandas

    frame = pandas.concat(frames)
    return len(frame), int(pandas.util.hash_pandas_object(frame, index=False).sum())


if __name__ == "__main__":
    print(globals()[sys.argv[1]](pathlib.Path(sys.argv[2])))

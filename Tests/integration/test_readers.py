"""Programs that read inventories get from a mount on SeaweedFS what the local files give, cold and warm."""

import pathlib
import sys

import pytest

from harness import shared

READ_AS = pathlib.Path(__file__).parent / "harness" / "read_as.py"
CSV_READERS = ["zcat", "md5sum", "duckdb_csv", "pyarrow_csv", "polars_csv", "pandas_csv"]
PARQUET_READERS = [
    "md5sum", "duckdb_parquet", "pyarrow_parquet", "pyarrow_parquet_2_columns", "polars_parquet", "pandas_parquet"]


def read_as(lab, reader, folder):
    result = lab.run(sys.executable, READ_AS, reader, folder)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()
    return result.stdout


def read_locally(lab, reader, inventory):
    """What the local files give; some readers take long, so each reads them once in a run."""
    name = f"read-{reader}-{pathlib.Path(inventory.manifest_key).parts[2]}"
    return shared.made(name, lambda _: read_as(lab, reader, inventory.data))


def cases(readers, kind):
    return [pytest.param(kind, reader, id=reader) for reader in readers]


@pytest.mark.parametrize(
    "kind,reader", cases(CSV_READERS, "csv") + cases(PARQUET_READERS, "parquet"))
def test_a_cold_mount_gives_what_the_local_files_give(lab, seaweedfs, inventories, kind, reader):
    inventory = inventories[kind == "parquet"]
    mount = lab.mount(inventory.url, endpoint=seaweedfs.endpoint)
    assert read_as(lab, reader, mount.data) == read_locally(lab, reader, inventory)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_warm_mount_gives_what_the_local_files_give(lab, seaweedfs, inventories, kind):
    inventory = inventories[kind == "parquet"]
    first = lab.mount(inventory.url, endpoint=seaweedfs.endpoint)
    read_as(lab, "cat", first.data)
    first.unmount()

    second = lab.mount(inventory.url, endpoint=seaweedfs.endpoint)
    for name, path in inventory.chunks.items():
        assert second.cached_bytes(name) == path.stat().st_size
    for reader in PARQUET_READERS if kind == "parquet" else CSV_READERS:
        assert read_as(lab, reader, second.data) == read_locally(lab, reader, inventory)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_the_second_mount_on_a_cache_asks_for_no_chunk(lab, inventories, kind):
    inventory = inventories[kind == "parquet"]
    origin = lab.origin(inventory.root)
    first = lab.mount(inventory.url, endpoint=origin.endpoint)
    assert read_as(lab, "cat", first.data) == read_locally(lab, "cat", inventory)
    first.unmount()
    before = origin.requests()

    second = lab.mount(inventory.url, endpoint=origin.endpoint)
    assert read_as(lab, "cat", second.data) == read_locally(lab, "cat", inventory)
    asked = {request.key for request in origin.requests()[len(before):]}
    assert not asked & set(inventory.keys)

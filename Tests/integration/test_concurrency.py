"""Many readers at once, in any order and at any offset, get the bytes of a flat copy."""

import hashlib
import pathlib
import subprocess
import sys

import pytest

COMPARE_RANDOM = pathlib.Path(__file__).parent / "harness" / "compare_random.py"
PROCESSES = 4
SEEDS = [11, 12, 13, 14]
READS_PER_PROCESS = 1500


def finish(processes):
    """Waits for all and collects what those that failed printed."""
    failed = []
    for process in processes:
        _, errors = process.communicate()
        if process.returncode:
            failed.append(f"{process.args[2:5]} exited {process.returncode}: {errors.decode()}")
    assert not failed, "\n".join(failed)


def digests(inventory):
    return {name: hashlib.md5(path.read_bytes()).hexdigest() for name, path in inventory.chunks.items()}


def md5_of(lab, paths):
    return lab.spawn("md5sum", *paths, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def check_md5(inventory, processes):
    wanted = digests(inventory)
    for process in processes:
        output, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
        got = {pathlib.Path(line.split()[1]).name: line.split()[0] for line in output.decode().splitlines()}
        assert got and got == {name: wanted[name] for name in got}


def test_four_processes_read_different_chunks_at_once(lab, seaweedfs, csv_inventory):
    mount = lab.mount(csv_inventory.url, endpoint=seaweedfs.endpoint)
    names = list(csv_inventory.chunks)
    assert len(names) == PROCESSES
    check_md5(csv_inventory, [md5_of(lab, [mount.data / name]) for name in names])


def test_four_processes_read_the_same_chunks_at_once(lab, seaweedfs, parquet_inventory):
    mount = lab.mount(parquet_inventory.url, endpoint=seaweedfs.endpoint)
    forwards = [mount.data / name for name in parquet_inventory.chunks]
    orders = [forwards, forwards, forwards[::-1], forwards[::-1]]
    check_md5(parquet_inventory, [md5_of(lab, paths) for paths in orders])


@pytest.mark.parametrize("way", ["pread", "mmap"])
def test_random_reads_equal_a_flat_copy(lab, seaweedfs, parquet_inventory, way):
    """6,000 reads each way. A failure prints its seed and step, which replay it."""
    mount = lab.mount(parquet_inventory.url, endpoint=seaweedfs.endpoint)
    finish([random_reader(lab, way, seed, mount, parquet_inventory) for seed in SEEDS])


def test_random_reads_equal_a_flat_copy_while_the_cache_is_too_small(lab, seaweedfs, parquet_inventory):
    assert parquet_inventory.size_in_bytes > 20 << 20
    mount = lab.mount(parquet_inventory.url, "--cache-size", "16MiB", endpoint=seaweedfs.endpoint)
    finish([random_reader(lab, "pread", seed, mount, parquet_inventory) for seed in SEEDS])


def random_reader(lab, way, seed, mount, inventory):
    return lab.spawn(sys.executable, COMPARE_RANDOM, way, seed, READS_PER_PROCESS, mount.data, inventory.data,
                     stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

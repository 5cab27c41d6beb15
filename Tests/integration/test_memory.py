"""The daemon's memory follows from its configuration."""

import os
import pathlib
import random
import re
import subprocess
import sys

import pytest

from harness import memory_cgroup
from harness.inventory import REPOSITORY, entry, write_manifest

MIB = 1 << 20

# The documented formula (docs/ARCHITECTURE.md, MemoryPlan.swift): connections x (receive buffer + connection) + a fixed
# base, which holds six buffers of the largest read.
DOCUMENTED_BYTES_PER_CONNECTION = (256 + 32) << 10
DOCUMENTED_BASE_BYTES = (27 + 6) * MIB


DOCUMENTED_BYTES_PER_FURTHER_NETWORK_THREAD = (256 + 256) << 10


def documented_peak_bytes(connections, network_threads=1):
    return (connections * DOCUMENTED_BYTES_PER_CONNECTION + DOCUMENTED_BASE_BYTES
            + (network_threads - 1) * DOCUMENTED_BYTES_PER_FURTHER_NETWORK_THREAD)


@pytest.mark.alone
@pytest.mark.parametrize("connections, network_threads", [(4, 1), (32, 1), (32, 4)])
def test_peak_memory_stays_within_the_documented_formula(
        lab, seaweedfs_with_big_inventory, big_inventory, connections, network_threads):
    mount = lab.mount(big_inventory.url, "--max-connections", connections, "--network-threads", network_threads,
                      endpoint=seaweedfs_with_big_inventory.endpoint)
    paths = sorted(mount.data.iterdir())
    assert len(paths) >= 8
    for _ in ("cold", "warm"):
        readers = [lab.spawn("cat", path, stdout=subprocess.DEVNULL) for path in paths]
        assert [reader.wait() for reader in readers] == [0] * len(readers)
    peak = mount.memory_bytes("VmHWM")
    documented = documented_peak_bytes(connections, network_threads)
    print(f"{connections} connections, {network_threads} threads: VmHWM {peak / MIB:.1f} MiB, "
          f"documented {documented / MIB:.1f} MiB")
    assert peak <= 1.1 * documented
    assert peak >= 0.9 * documented, "the documentation promises too much"


# In a group with a limit

READERS = 64


@pytest.fixture
def cgroup():
    """Makes a group with a limit in bytes. Comes before `lab` in a test's arguments: it must be empty when it goes."""
    if reason := memory_cgroup.why_not():
        pytest.skip(f"no control group with a limit of memory can be made here: {reason}")
    made = []
    yield lambda limit_bytes: made.append(memory_cgroup.MemoryCgroup(limit_bytes)) or made[-1]
    for group in made:
        group.close()


@pytest.mark.alone
@pytest.mark.parametrize("connections", [32, 64])
def test_64_readers_in_a_group_limited_to_the_documented_bound(cgroup, lab, big_inventory, connections):
    """The page cache of the cache's files counts too, and the kernel takes it back."""
    limit = documented_peak_bytes(connections)
    group = cgroup(limit)
    origin = lab.origin(big_inventory.root)
    mount = lab.mount(big_inventory.url, "--max-connections", connections, "--cache-size", "128MiB",
                      endpoint=origin.endpoint, binary=group.wrapper(lab.folder / "in-cgroup", lab.binary))
    assert group.pids() == [mount.pid]
    chunks = list(big_inventory.chunks.items())
    readers = [lab.spawn("cmp", mount.data / name, copy)
               for name, copy in (chunks[number % len(chunks)] for number in range(READERS))]
    assert [reader.wait() for reader in readers] == [0] * READERS
    print(f"cgroup v{group.version}, limit {limit / MIB:.1f} MiB: peak {group.peak_bytes() / MIB:.1f}, anonymous "
          f"{group.anonymous_bytes() / MIB:.1f}; VmHWM {mount.memory_bytes('VmHWM') / MIB:.1f} MiB")
    assert group.peak_bytes() <= limit
    assert group.kills() == 0
    assert mount.process.poll() is None


# Over many reads

MANY_READS = REPOSITORY / "Tests" / "integration" / "harness" / "many_reads.py"
PROCESSES = 4


def read_calls(mount):
    text = pathlib.Path(f"/proc/{mount.pid}/io").read_text()
    return int(re.search(r"^syscr: (\d+)$", text, re.MULTILINE)[1])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("count", [250_000, pytest.param(1_000_000, marks=pytest.mark.nightly)])
def test_memory_does_not_grow_with_the_number_of_reads(lab, count):
    """What each read leaves behind, and be it the 16 bytes of the least allocation, shows after 250,000 of them; after a
    million also what every fifth does. READS in the environment is another number.

    The chunk is larger than the cache, so that it is never whole and the kernel cannot read it by itself: every read is
    the daemon's. Most are hits, and now and then a block is evicted and fetched again.
    """
    count = int(os.environ.get("READS") or count)
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    files = [entry(lab.folder, "many/one.bin", random.Random(seed).randbytes(24 * MIB))]
    made = write_manifest(lab.folder, files)
    mount = lab.mount(made.url, "--cache-size", "16MiB", endpoint=lab.origin(lab.folder).endpoint)

    def read(count, round):
        readers = [lab.spawn(sys.executable, MANY_READS, f"{seed}/{round}/{number}", count // PROCESSES,
                             mount.data / "one.bin", made.path("many/one.bin"), number * MIB, (number + 2) * MIB)
                   for number in range(PROCESSES)]
        assert [reader.wait() for reader in readers] == [0] * PROCESSES

    read(count // 10, "warming up")
    before, calls = mount.memory_bytes("VmRSS"), read_calls(mount)
    read(count, "counting")
    after = mount.memory_bytes("VmRSS")
    # Each request is a read of /dev/fuse, and one of the cache's file.
    answered = read_calls(mount) - calls
    print(f"{count:,} reads, {answered:,} system calls of the daemon to read: resident {before / MIB:.2f} MiB before, "
          f"{after / MIB:.2f} after")
    assert answered >= 2 * (count - PROCESSES), "not every read came to the daemon, so this showed nothing"
    assert after - before < 2 * MIB

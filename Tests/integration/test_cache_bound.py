"""--cache-size is a hard bound on allocated bytes at every moment."""

import subprocess
import threading

import pytest

from harness.processes import wait_until

MIB = 1 << 20
BOUND = 64 * MIB


class Sampler(threading.Thread):
    """Asks every few milliseconds what the cache takes on the disk."""

    def __init__(self, mount):
        super().__init__(daemon=True)
        self.mount, self.highest, self.samples = mount, 0, 0
        self.stopped = threading.Event()

    def run(self):
        while not self.stopped.wait(0.003):
            self.highest = max(self.highest, self.mount.allocated_bytes())
            self.samples += 1

    def has_looked(self):
        """Waits until it has asked once more."""
        # One may be under way.
        wanted = self.samples + 2
        wait_until(lambda: self.samples >= wanted, "the sampler", poll_seconds=0.001)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.join()


def read_and_compare(mount, inventory, sampler=None):
    """The number of bytes read; each is compared. The sampler looks at least once for every two pieces of a MiB."""
    total, pieces = 0, 0
    for name, path in inventory.chunks.items():
        with open(mount.data / name, "rb", buffering=0) as got, open(path, "rb") as wanted:
            while piece := wanted.read(MIB):
                same = bytearray()
                while len(same) < len(piece) and (part := got.read(len(piece) - len(same))):
                    same += part
                assert same == piece, f"{name}: other bytes in the MiB at {wanted.tell() - len(piece)}"
                total += len(piece)
                pieces += 1
                if sampler and pieces % 2 == 0:
                    sampler.has_looked()
            assert got.read(1) == b""
    return total


def test_64_mib_of_cache_hold_while_over_500_mib_are_read(lab, seaweedfs_with_big_inventory, big_inventory):
    mount = lab.mount(big_inventory.url, "--cache-size", "64MiB", endpoint=seaweedfs_with_big_inventory.endpoint)
    failures, total = [], 0

    def read():
        nonlocal total
        try:
            total += read_and_compare(mount, big_inventory, sampler)
        except (AssertionError, OSError) as error:
            failures.append(error)

    with Sampler(mount) as sampler:
        # Twice over: the second time finds the chunks half evicted.
        for _ in range(2):
            reader = threading.Thread(target=read, daemon=True)
            reader.start()
            reader.join()
    assert not failures
    assert total >= 500 * MIB
    assert sampler.samples > 100
    assert sampler.highest <= BOUND
    assert sampler.highest > BOUND // 4, "the cache was hardly used, so this showed nothing"


@pytest.mark.slow
def test_the_bound_holds_for_several_readers_of_different_chunks(
        lab, seaweedfs_with_big_inventory, big_inventory):
    mount = lab.mount(big_inventory.url, "--cache-size", "64MiB", endpoint=seaweedfs_with_big_inventory.endpoint)
    names = list(big_inventory.chunks)
    with Sampler(mount) as sampler:
        readers = [lab.spawn("cmp", mount.data / name, big_inventory.chunks[name]) for name in names]
        assert [reader.wait() for reader in readers] == [0] * len(names)
    assert sampler.highest <= BOUND


@pytest.mark.parametrize("readers", [2, 4])
def test_readers_of_different_chunks_do_not_evict_what_another_has_yet_to_read(lab, big_inventory, readers):
    """Each gets a share of the bound to be fetched ahead. Were it too much, bytes would have to come twice."""
    origin = lab.origin(big_inventory.root)
    mount = lab.mount(big_inventory.url, "--cache-size", "32MiB", endpoint=origin.endpoint)
    keys = big_inventory.keys[:readers]
    # Not in step: each begins in another chunk, and all of them read all.
    running = [
        lab.spawn("cat", *[mount.data / big_inventory.path(key).name for key in keys[turn:] + keys[:turn]],
                  stdout=subprocess.DEVNULL)
        for turn in range(readers)
    ]
    assert [reader.wait() for reader in running] == [0] * readers
    origin.settled_requests()
    wanted = sum(big_inventory.path(key).stat().st_size for key in keys) * readers
    fetched = sum(request.body_bytes for key in keys for request in origin.requests(key))
    # Less, where two meet in one chunk; the start of a chunk nobody came to is a little more.
    assert fetched <= wanted * 1.02, f"{fetched} bytes for {wanted}"


def test_a_smaller_bound_at_the_next_mount_shrinks_the_cache(lab, seaweedfs, parquet_inventory):
    wide = lab.mount(parquet_inventory.url, "--cache-size", "64MiB", endpoint=seaweedfs.endpoint)
    read_and_compare(wide, parquet_inventory)
    assert wide.allocated_bytes() > 16 * MIB
    wide.unmount()

    narrow = lab.mount(parquet_inventory.url, "--cache-size", "16MiB", endpoint=seaweedfs.endpoint)
    with Sampler(narrow) as sampler:
        read_and_compare(narrow, parquet_inventory, sampler)
    assert sampler.samples > 10
    assert narrow.allocated_bytes() <= 16 * MIB

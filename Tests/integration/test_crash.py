"""kill -9 of the daemon in the middle of a download, and a new mount with the same cache."""

import subprocess

import pytest

from harness import processes
from harness.processes import wait_until

MIB = 1 << 20


def compare_all(lab, mount, inventory):
    for name, path in inventory.chunks.items():
        assert lab.run("cmp", mount.data / name, path).returncode == 0, f"{name} differs"


@pytest.mark.parametrize("allocated_mib_at_the_kill", [1, 40, 150])
def test_after_kill_9_a_new_mount_with_the_same_cache_has_every_byte_right(
        lab, seaweedfs_with_big_inventory, big_inventory, allocated_mib_at_the_kill):
    endpoint = seaweedfs_with_big_inventory.endpoint
    first = lab.mount(big_inventory.url, endpoint=endpoint)
    readers = [lab.spawn("cat", *paths, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
               for paths in (sorted(first.data.iterdir()), sorted(first.data.iterdir(), reverse=True))]
    # They get on as we take from their pipes, so that none is through before the kill, however late we are with it.
    while first.allocated_bytes() < allocated_mib_at_the_kill * MIB:
        read_some(readers)
    read_some(readers)
    first.kill()
    for reader in readers:
        reader.communicate()
        assert reader.returncode != 0, "it was through before the kill"
    assert processes.is_mounted(first.path), "kill -9 leaves a dead mountpoint, which is what this is about"

    second = lab.mount(big_inventory.url, endpoint=endpoint)
    compare_all(lab, second, big_inventory)
    check_nothing_is_left_over(second, big_inventory)
    second.unmount()

    # And what is in the cache now is right too.
    third = lab.mount(big_inventory.url, endpoint=endpoint)
    compare_all(lab, third, big_inventory)


def read_some(readers):
    for reader in readers:
        assert len(reader.stdout.read(MIB)) == MIB


def check_nothing_is_left_over(mount, inventory):
    """With all read, the cache holds each byte once, and little more: blocks round up, and there is an index."""
    names = inventory.chunks
    assert sum(mount.cached_bytes(name) for name in names) == inventory.size_in_bytes
    allowance = MIB * (1 + len(names))
    wait_until(lambda: mount.allocated_bytes() <= inventory.size_in_bytes + allowance,
               "what the crash left to be reclaimed in the background")


def test_what_a_crash_left_is_reclaimed_although_another_manifest_is_mounted(lab, seaweedfs_with_big_inventory,
                                                                            big_inventory, csv_inventory):
    """A smaller bound must hold although the first mount of the new process knows none of the chunks."""
    endpoint = seaweedfs_with_big_inventory.endpoint
    first = lab.mount(big_inventory.url, endpoint=endpoint)
    reader = lab.spawn("cat", *sorted(first.data.iterdir()), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: first.allocated_bytes() >= 100 * MIB, "the download to get there", poll_seconds=0.001)
    first.kill()
    reader.wait()

    second = lab.mount(csv_inventory.url, "--cache-size", "32MiB", endpoint=endpoint)
    compare_all(lab, second, csv_inventory)
    wait_until(lambda: second.allocated_bytes() <= 32 * MIB, "the crashed run's blocks to leave")


def test_a_second_mount_on_the_same_cache_names_the_holder(lab, seaweedfs, csv_inventory):
    first = lab.mount(csv_inventory.url, endpoint=seaweedfs.endpoint)
    result = lab.inventoryfs("mount", csv_inventory.url, lab.mountpoint("second"), "--cache-dir", first.cache,
                             "--endpoint-url", seaweedfs.endpoint)
    assert result.returncode == 1
    assert str(first.pid) in result.stderr
    assert str(first.cache) in result.stderr
    assert not processes.is_mounted(lab.folder / "second")
    assert first.is_mounted()

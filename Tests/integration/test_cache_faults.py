"""The cache's disk is full, or its directory is deleted: real mounts give every byte all the same."""

import contextlib
import errno
import os
import shutil
import subprocess

import pytest

from harness.lab import needs_root

MIB = 1 << 20


@contextlib.contextmanager
def small_disk(lab, size_mib):
    """A tmpfs of its own, where the cache goes."""
    disk = lab.folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", disk], check=True)
    try:
        yield disk
    finally:
        for mount in lab.mounts:
            mount.unmount()
        subprocess.run(["umount", "-l", disk], check=True)


def fill(disk):
    """Takes what is left of the disk."""
    with open(disk / "ballast", "wb", buffering=0) as ballast:
        with contextlib.suppress(OSError):
            while ballast.write(bytes(4096)):
                pass
    return disk / "ballast"


def free_bytes(disk):
    info = os.statvfs(disk)
    return info.f_bavail * info.f_frsize


def forget_pages(path):
    """Has the kernel forget what it has of a file, so that the daemon is asked for it."""
    with open(path, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def compare_all(lab, mount, inventory):
    for name, path in inventory.chunks.items():
        forget_pages(mount.data / name)
        assert lab.run("cmp", mount.data / name, path).returncode == 0, f"{name} differs"


COMPLAINT = "without caching"


def complaints(mount):
    return [line for line in mount.log().splitlines() if COMPLAINT in line]


def delete(folder):
    """As `rm -rf`, and on where the daemon has made or removed a file meanwhile."""
    while True:
        try:
            return shutil.rmtree(folder)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
                raise


def check_is_cached(lab, mount, inventory, origin):
    """What was read last."""
    name, path = list(inventory.chunks.items())[-1]
    before = len(origin.settled_requests(inventory.key(name)))
    forget_pages(mount.data / name)
    assert lab.run("cmp", mount.data / name, path).returncode == 0
    assert len(origin.settled_requests(inventory.key(name))) == before


@needs_root
def test_a_full_disk_costs_one_warning_and_no_byte_and_is_used_again_once_it_has_room(lab, csv_inventory):
    origin = lab.origin(csv_inventory.root)
    with small_disk(lab, 24) as disk:
        mount = lab.mount(csv_inventory.url, "--cache-size", "64MiB", "--cache-min-free", "0",
                          endpoint=origin.endpoint, cache="disk/cache")
        ballast = fill(disk)
        compare_all(lab, mount, csv_inventory)
        assert free_bytes(disk) < MIB
        assert len(mount.logged(COMPLAINT)) == 1
        # Again, with several readers at once.
        for name in csv_inventory.chunks:
            forget_pages(mount.data / name)
        readers = [lab.spawn("cmp", mount.data / name, path) for name, path in csv_inventory.chunks.items()]
        assert [reader.wait() for reader in readers] == [0] * len(readers)
        assert len(complaints(mount)) == 1

        ballast.unlink()
        mount.logged("caching resumes")
        compare_all(lab, mount, csv_inventory)
        assert mount.allocated_bytes() > 8 * MIB
        assert len(complaints(mount)) == 1
        check_is_cached(lab, mount, csv_inventory, origin)


@needs_root
def test_a_disk_that_fills_up_while_a_chunk_is_read_costs_no_byte(lab, csv_inventory):
    origin = lab.origin(csv_inventory.root)
    with small_disk(lab, 24) as disk:
        mount = lab.mount(csv_inventory.url, "--cache-size", "64MiB", "--cache-min-free", "0",
                          endpoint=origin.endpoint, cache="disk/cache")
        name, path = next(iter(csv_inventory.chunks.items()))
        with open(mount.data / name, "rb", buffering=0) as got, open(path, "rb") as wanted:
            assert got.read(65536) == wanted.read(65536)
            fill(disk)
            while piece := wanted.read(65536):
                assert os.pread(got.fileno(), len(piece), wanted.tell() - len(piece)) == piece
        compare_all(lab, mount, csv_inventory)


@needs_root
def test_a_cache_larger_than_its_disk_leaves_free_what_it_is_told_to(lab, csv_inventory):
    origin = lab.origin(csv_inventory.root)
    with small_disk(lab, 32) as disk:
        mount = lab.mount(csv_inventory.url, "--cache-size", "64MiB", "--cache-min-free", "12MiB",
                          endpoint=origin.endpoint, cache="disk/cache")
        for _ in range(2):
            compare_all(lab, mount, csv_inventory)
            assert free_bytes(disk) >= 12 * MIB
        assert mount.allocated_bytes() > 8 * MIB, "it is used all the same"
        assert complaints(mount) == []


def test_a_cache_directory_deleted_while_it_is_read_costs_no_byte(lab, csv_inventory):
    origin = lab.origin(csv_inventory.root)
    mount = lab.mount(csv_inventory.url, endpoint=origin.endpoint)
    name, path = next(iter(csv_inventory.chunks.items()))
    with open(mount.data / name, "rb", buffering=0) as got, open(path, "rb") as wanted:
        assert got.read(65536) == wanted.read(65536)
        delete(mount.cache / "inventoryfs-cache")
        compare_all(lab, mount, csv_inventory)
        while piece := wanted.read(65536):
            assert os.pread(got.fileno(), len(piece), wanted.tell() - len(piece)) == piece
    # What was opened since is in the new directory.
    assert mount.allocated_bytes() > MIB
    check_is_cached(lab, mount, csv_inventory, origin)
    # Twice is no different.
    delete(mount.cache / "inventoryfs-cache")
    compare_all(lab, mount, csv_inventory)


def test_with_no_descriptors_left_chunks_are_read_all_the_same(lab, csv_inventory):
    origin = lab.origin(csv_inventory.root)
    mount = lab.mount(csv_inventory.url, endpoint=origin.endpoint)
    # Connections need descriptors too: they are made before, and kept.
    name, path = next(iter(csv_inventory.chunks.items()))
    assert lab.run("cmp", mount.data / name, path).returncode == 0
    in_use = len(os.listdir(f"/proc/{mount.pid}/fd"))
    assert lab.run("prlimit", "--pid", mount.pid, f"--nofile={in_use}").returncode == 0
    for name, path in list(csv_inventory.chunks.items())[1:]:
        assert lab.run("cmp", mount.data / name, path).returncode == 0, name

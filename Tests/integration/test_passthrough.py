"""Kernel passthrough: a chunk that is wholly cached is read by the kernel itself, at the local file's own speed."""

import contextlib
import ctypes
import mmap
import os
import pathlib
import random
import re
import shutil
import signal
import stat
import threading

import pytest

from harness.inventory import entry, write_manifest
from harness.lab import NOBODY, needs_root
from harness.processes import is_mounted, unmount_lazily, wait_until
from test_cache_bound import BOUND, MIB, Sampler, read_and_compare

pytestmark = needs_root


def read_path(mount, name):
    return mount.xattr("user.inventoryfs.read_path", name)


def wait_until_lent(mount, name):
    """The kernel tells of a reader's end only after close(2) has returned, and who opens before goes on as that one did."""
    wait_until(lambda: read_path(mount, name) == "passthrough", f"{name} to be lent to the kernel")


def bytes_read_by(pid):
    """What the daemon has read, from the page cache too: copying a chunk out of its file shows here."""
    return int(re.search(r"^rchar: (\d+)$", pathlib.Path(f"/proc/{pid}/io").read_text(), re.MULTILINE)[1])


def assert_same(mount, inventory, name):
    assert (mount.data / name).read_bytes() == inventory.chunks[name].read_bytes(), name


def assert_still_reads(file, path):
    assert os.pread(file.fileno(), path.stat().st_size + 1, 0) == path.read_bytes()


def forget_pages(path):
    """What the kernel has in its page cache would not be read from the mount again."""
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def assert_leaves(mount, inventory, name):
    """Other chunks are read until there is no room for this one: it is not pinned any more."""
    others = [other for other in inventory.chunks if other != name]

    def has_left():
        for other in others:
            forget_pages(mount.data / other)
            assert_same(mount, inventory, other)
        return mount.cached_bytes(name) < inventory.chunks[name].stat().st_size

    wait_until(has_left, f"{name} to be evicted")


@contextlib.contextmanager
def mapping_without_handle(path):
    """The bytes of a mapping whose descriptor is closed. (Python's own mmap keeps a duplicate of it.)"""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    descriptor = os.open(path, os.O_RDONLY)
    size = os.fstat(descriptor).st_size
    address = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    os.close(descriptor)
    assert address not in (None, ctypes.c_void_p(-1).value), os.strerror(ctypes.get_errno())
    try:
        yield lambda: ctypes.string_at(address, size)
    finally:
        libc.munmap(address, size)


@pytest.fixture
def mounted(lab, seaweedfs, csv_inventory):
    # What is hashed in the background would count as read.
    return lab.mount(csv_inventory.url, "--log-level", "debug", "--verify=off", endpoint=seaweedfs.endpoint)


@pytest.fixture
def small(lab, seaweedfs_with_big_inventory, big_inventory):
    """A cache that holds two of twelve chunks, and may lend one."""
    return lab.mount(big_inventory.url, "--cache-size", "64MiB", endpoint=seaweedfs_with_big_inventory.endpoint)


def test_the_second_read_of_a_chunk_does_not_reach_the_daemon(mounted, csv_inventory):
    assert len(mounted.logged("passthrough: on")) == 1
    name, path = next(iter(csv_inventory.chunks.items()))
    size = path.stat().st_size
    assert read_path(mounted, name) == "network"
    start = bytes_read_by(mounted.pid)
    assert_same(mounted, csv_inventory, name)
    assert bytes_read_by(mounted.pid) - start > size, "the first read was not counted, so this shows nothing"
    wait_until_lent(mounted, name)
    start = bytes_read_by(mounted.pid)
    for _ in range(3):
        assert_same(mounted, csv_inventory, name)
    assert bytes_read_by(mounted.pid) - start < size // 4


def test_a_mapping_reads_the_same_bytes(mounted, csv_inventory):
    name, path = next(iter(csv_inventory.chunks.items()))
    assert_same(mounted, csv_inventory, name)
    wait_until_lent(mounted, name)
    start = bytes_read_by(mounted.pid)
    with open(mounted.data / name, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        assert view[:] == path.read_bytes()
    assert bytes_read_by(mounted.pid) - start < path.stat().st_size // 4


def test_what_an_earlier_run_left_is_compared_with_its_checksums_first(lab, seaweedfs, csv_inventory):
    name = next(iter(csv_inventory.chunks))
    first = lab.mount(csv_inventory.url, endpoint=seaweedfs.endpoint)
    assert_same(first, csv_inventory, name)
    first.unmount()
    second = lab.mount(csv_inventory.url, endpoint=seaweedfs.endpoint)
    wait_until(lambda: read_path(second, name) == "cached", "the cache to be taken over")
    assert_same(second, csv_inventory, name)
    wait_until_lent(second, name)
    assert_same(second, csv_inventory, name)


def test_an_open_follows_those_that_are_open(mounted, csv_inventory):
    name, path = next(iter(csv_inventory.chunks.items()))
    with open(mounted.data / name, "rb", buffering=0) as first:
        assert_still_reads(first, path)
        assert read_path(mounted, name) == "cached"
        with open(mounted.data / name, "rb", buffering=0) as second:
            first.close()
            with open(mounted.data / name, "rb", buffering=0) as third:
                assert_still_reads(second, path)
                assert_still_reads(third, path)
    wait_until_lent(mounted, name)
    with open(mounted.data / name, "rb", buffering=0) as first:
        with open(mounted.data / name, "rb", buffering=0) as second:
            first.close()
            assert_still_reads(second, path)


def test_readers_that_open_and_close_all_the_time_read_right_bytes(small, big_inventory):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chunks = list(big_inventory.chunks.items())[:4]
    failures = []

    def read(number):
        generator = random.Random(seed + number)
        try:
            for _ in range(40):
                name, path = generator.choice(chunks)
                size = path.stat().st_size
                with open(small.data / name, "rb", buffering=0) as got, open(path, "rb", buffering=0) as wanted:
                    offset = generator.randrange(size)
                    count = generator.choice([1, 70_000, 3 * MIB, size])
                    assert os.pread(got.fileno(), count, offset) == os.pread(wanted.fileno(), count, offset), \
                        f"{name}: {count} bytes at {offset}"
        except (AssertionError, OSError) as error:
            failures.append(error)

    with Sampler(small) as sampler:
        readers = [threading.Thread(target=read, args=(number,), daemon=True) for number in range(8)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    assert not failures
    assert sampler.highest <= BOUND


def test_nothing_leaves_under_a_handle_and_the_bound_holds(small, big_inventory):
    (name, path), (other, _) = list(big_inventory.chunks.items())[:2]
    assert_same(small, big_inventory, name)
    wait_until_lent(small, name)
    with open(small.data / name, "rb", buffering=0) as file, Sampler(small) as sampler:
        assert read_path(small, name) == "passthrough"
        read_and_compare(small, big_inventory)
        assert small.cached_bytes(name) == path.stat().st_size
        # A second chunk would be more than half of the cache.
        assert_same(small, big_inventory, other)
        assert read_path(small, other) != "passthrough"
        assert_same(small, big_inventory, other)
        assert_still_reads(file, path)
    assert sampler.highest <= BOUND
    assert_leaves(small, big_inventory, name)


def test_nothing_leaves_under_a_mapping_whose_handle_is_closed(small, big_inventory):
    name, path = next(iter(big_inventory.chunks.items()))
    assert_same(small, big_inventory, name)
    wait_until_lent(small, name)
    with mapping_without_handle(small.data / name) as content, Sampler(small) as sampler:
        for _ in range(2):
            read_and_compare(small, big_inventory)
        assert content() == path.read_bytes()
        assert_same(small, big_inventory, name)
    assert sampler.highest <= BOUND
    assert_leaves(small, big_inventory, name)


@pytest.mark.parametrize("how", ["unmount --lazy", "SIGTERM", "SIGKILL"])
@pytest.mark.parametrize("holder", ["handle", "mapping"])
def test_a_reader_keeps_its_bytes_when_the_mount_ends_and_the_next_one_evicts(
        lab, seaweedfs_with_big_inventory, big_inventory, how, holder):
    name, path = next(iter(big_inventory.chunks.items()))

    def mount():
        return lab.mount(big_inventory.url, "--cache-size", "64MiB", endpoint=seaweedfs_with_big_inventory.endpoint)

    first = mount()
    assert_same(first, big_inventory, name)
    wait_until_lent(first, name)
    with contextlib.ExitStack() as stack:
        if holder == "handle":
            file = stack.enter_context(open(first.data / name, "rb", buffering=0))
            content = lambda: os.pread(file.fileno(), path.stat().st_size + 1, 0)
        else:
            content = stack.enter_context(mapping_without_handle(first.data / name))
        assert content() == path.read_bytes()
        if how == "SIGKILL":
            first.kill()
            unmount_lazily(first.path)
        elif how == "SIGTERM":
            first.signal(signal.SIGTERM)
            first.wait_for_end()
        else:
            assert lab.inventoryfs("unmount", "--lazy", first.path).returncode == 0
            # With a file open or mapped there the daemon goes on, and has its cache.
            first.signal(signal.SIGTERM)
            first.wait_for_end()
        assert not is_mounted(first.path)
        second = mount()
        read_and_compare(second, big_inventory)
        assert content() == path.read_bytes()
        assert second.allocated_bytes() <= BOUND
        second.unmount()


def test_chunks_on_the_local_disk_are_passed_through(lab, csv_inventory):
    mount = lab.mount(csv_inventory.manifest_path)
    start = bytes_read_by(mount.pid)
    for name in csv_inventory.chunks:
        wait_until_lent(mount, name)
        assert_same(mount, csv_inventory, name)
    assert bytes_read_by(mount.pid) - start < csv_inventory.size_in_bytes // 4


def test_an_ordinary_user_reads_through_the_daemon(lab, seaweedfs, csv_inventory):
    assert stat.S_IMODE(os.stat("/dev/fuse").st_mode) == 0o666, "chmod 0666 /dev/fuse, as Tests/run does"
    mount = lab.mount(csv_inventory.url, "--log-level", "debug", endpoint=seaweedfs.endpoint, user=NOBODY,
                      binary=lab.binary_for_everybody())
    name, path = next(iter(csv_inventory.chunks.items()))
    for _ in range(2):
        assert lab.run("cmp", mount.data / name, path, user=NOBODY).returncode == 0
        assert read_path(mount, name) == "cached"
    assert len(mount.logged("passthrough: off")) == 1


@pytest.mark.parametrize("options, shown", [([], ""), (["--allow-other"], "allow_other,")])
def test_the_mount_table_shows_type_source_and_options(lab, csv_inventory, options, shown):
    mount = lab.mount(csv_inventory.manifest_path, *options)
    entry = [line.split() for line in pathlib.Path("/proc/mounts").read_text().splitlines()
             if line.split()[1] == str(mount.path)]
    assert entry == [[
        str(csv_inventory.manifest_path), str(mount.path), "fuse.inventoryfs",
        f"ro,nosuid,nodev,noatime,user_id=0,group_id=0,default_permissions,{shown}max_read=1048576", "0", "0"]]


@pytest.mark.parametrize("name", ["a,b=c", "back\\slash", "sp ace", "x" * 200 + "/" + "y" * 200])
def test_a_source_may_be_named_as_it_likes(lab, csv_inventory, name):
    folder = lab.folder / name
    folder.mkdir(parents=True)
    shutil.copytree(csv_inventory.root, folder / "buckets", copy_function=os.link)
    manifest = folder / "buckets" / csv_inventory.manifest_path.relative_to(csv_inventory.root)
    mount = lab.mount(manifest)
    assert mount.xattr("user.inventoryfs.source") == str(manifest)
    shown = [line.split()[0] for line in pathlib.Path("/proc/mounts").read_text().splitlines()
             if line.split()[1] == str(mount.path)]
    assert [text.encode().decode("unicode_escape") for text in shown] == [str(manifest)]
    for chunk in csv_inventory.chunks:
        assert_same(mount, csv_inventory, chunk)


def test_a_walk_goes_on_where_the_kernel_reads_by_itself(lab):
    names = [f"{number:02}.csv.gz" for number in range(40)]
    content = bytes(range(256)) * 1000
    made = write_manifest(lab.folder, [entry(lab.folder, f"walk/{name}", content) for name in names])
    origin = lab.origin(lab.folder)
    mount = lab.mount(made.url, "--verify=off", endpoint=origin.endpoint)

    def wait_for(name):
        wait_until(lambda: mount.cached_bytes(name) == len(content), f"{name} to be fetched")

    for name in names[:2]:
        assert (mount.data / name).read_bytes() == content
    # Sixteen chunks ahead of the second one's reader.
    for name in names[2:18]:
        wait_for(name)
    assert mount.cached_bytes(names[18]) == 0
    for name, ahead in zip(names[2:], names[18:]):
        wait_until_lent(mount, name)
        assert (mount.data / name).read_bytes() == content
        wait_for(ahead)
    asked = [request.key for request in origin.settled_requests() if request.key.startswith("walk/")]
    assert sorted(asked) == [f"walk/{name}" for name in names]

"""Chunks against the manifest's MD5, over a real mount: `--verify=background|strict|off`."""

import contextlib
import errno
import os
import time

import pytest

from harness.inventory import entry, write_manifest
from harness.processes import wait_until

# The comparison gives way to whatever else runs, and may have to wait long on a busy machine.
pytestmark = pytest.mark.timeout(300)

LONG = 240
MIB = 1 << 20
MODES = ["background", "strict", "off"]
# In the middle of every chunk of big_inventory, 24 MiB each.
TOUCHED = 10 * MIB


def state(mount, name):
    return mount.xattr("user.inventoryfs.verified", name)


def wait_for_state(mount, name, wanted):
    wait_until(lambda: state(mount, name) == wanted, f"{name} to be {wanted}", LONG)


def wrong_bytes(name, nth=None):
    """One bit is wrong in the answers, or in the nth, that have the byte at TOUCHED."""
    match = {"keySuffix": name, "rangeOverlaps": [TOUCHED, TOUCHED + 1]}
    if nth is not None:
        match["nth"] = nth
    return {"rules": [{"match": match, "fault": {"kind": "wrongBytes", "atOffset": 1000}}]}


@pytest.fixture
def chunk(big_inventory):
    """(name, the local file) of one chunk."""
    return next(iter(big_inventory.chunks.items()))


@pytest.fixture
def mounted(lab, big_inventory, chunk):
    """Mounts the inventory from an origin of this test's own."""
    def mount(mode, *options, fault_plan=None, origin=None):
        origin = origin or lab.origin(big_inventory.root, fault_plan=fault_plan)
        return lab.mount(big_inventory.url, f"--verify={mode}", "--log-level", "debug", *options,
                         endpoint=origin.endpoint)
    return mount


@contextlib.contextmanager
def open_chunk(mount, name):
    descriptor = os.open(mount.data / name, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read_failure(path):
    """The errno of reading the file, None if it can be read."""
    try:
        path.read_bytes()
    except OSError as error:
        return error.errno
    return None


def test_the_default_is_to_verify_in_the_background(lab, big_inventory, chunk):
    name, path = chunk
    origin = lab.origin(big_inventory.root)
    mount = lab.mount(big_inventory.url, endpoint=origin.endpoint)
    assert state(mount, name) == "pending"
    assert (mount.data / name).read_bytes() == path.read_bytes()
    wait_for_state(mount, name, "ok")
    other = next(other for other in big_inventory.chunks if other != name)
    assert state(mount, other) == "pending"


def test_in_strict_mode_a_chunk_is_verified_when_its_last_byte_has_been_read(mounted, chunk):
    name, path = chunk
    mount = mounted("strict")
    truth = path.read_bytes()
    with open_chunk(mount, name) as descriptor:
        assert os.pread(descriptor, 1, 0) == truth[:1]
        assert state(mount, name) == "pending"
        assert os.pread(descriptor, 100, len(truth) - 1) == truth[-1:]
        assert state(mount, name) == "ok"
        assert mount.cached_bytes(name) == len(truth)
    assert (mount.data / name).read_bytes() == truth


def test_off_verifies_nothing(mounted, chunk):
    name, path = chunk
    mount = mounted("off")
    assert (mount.data / name).read_bytes() == path.read_bytes()
    time.sleep(2)  # twice the time for which nobody has to have read
    assert state(mount, name) == "pending"
    assert "MD5" not in mount.log()


@pytest.mark.parametrize("mode", MODES)
def test_without_an_md5_in_the_manifest_a_chunk_is_unverifiable(lab, mode):
    file = entry(lab.folder, "data/one.csv.gz", os.urandom(6 * MIB))
    del file["MD5checksum"]
    made = write_manifest(lab.folder, [file])
    origin = lab.origin(lab.folder)
    mount = lab.mount(made.url, f"--verify={mode}", endpoint=origin.endpoint)
    assert state(mount, "one.csv.gz") == "unverifiable"
    assert (mount.data / "one.csv.gz").read_bytes() == made.path("data/one.csv.gz").read_bytes()
    assert state(mount, "one.csv.gz") == "unverifiable"


def test_wrong_bytes_are_fetched_again_in_the_background_and_the_kernel_forgets_them(mounted, chunk):
    name, path = chunk
    truth = path.read_bytes()
    mount = mounted("background", fault_plan=wrong_bytes(name, nth=1))
    # Before all is there, so that nothing is noticed in its midst.
    with open_chunk(mount, name) as descriptor:
        start = TOUCHED - MIB
        assert os.pread(descriptor, 2 * MIB, start) != truth[start:start + 2 * MIB], "else this shows nothing"
    (mount.data / name).read_bytes()
    assert "readers may have been given wrong bytes before" in mount.logged("dropped from the cache", LONG)[0]
    assert (mount.data / name).read_bytes() == truth
    wait_for_state(mount, name, "ok")
    assert (mount.data / name).read_bytes() == truth


def test_in_strict_mode_who_reads_to_the_end_is_given_the_right_end(mounted, chunk):
    name, path = chunk
    truth = path.read_bytes()
    mount = mounted("strict", fault_plan=wrong_bytes(name, nth=1))
    with open_chunk(mount, name) as descriptor:
        assert os.pread(descriptor, 1, len(truth) - 1) == truth[-1:]
        assert os.pread(descriptor, MIB, TOUCHED - 1000) == truth[TOUCHED - 1000:TOUCHED - 1000 + MIB]
    assert mount.logged("given to no reader")
    assert state(mount, name) == "ok"
    assert (mount.data / name).read_bytes() == truth


@pytest.mark.parametrize("mode", ["background", "strict"])
def test_bytes_that_are_always_wrong_are_eio(mounted, big_inventory, chunk, mode):
    name, _ = chunk
    mount = mounted(mode, fault_plan=wrong_bytes(name))
    if mode == "strict":
        assert read_failure(mount.data / name) == errno.EIO
    else:
        wait_until(lambda: read_failure(mount.data / name) == errno.EIO, "reading to fail", LONG)
    assert state(mount, name) == "failed"
    assert read_failure(mount.data / name) == errno.EIO
    errors = mount.logged("for the second time")
    assert len(errors) == 1 and name in errors[0] and "mount again" in errors[0]
    other, path = list(big_inventory.chunks.items())[1]
    assert (mount.data / other).read_bytes() == path.read_bytes()


def test_the_next_mount_knows_what_this_one_found_right(lab, big_inventory, mounted, chunk):
    name, path = chunk
    origin = lab.origin(big_inventory.root)
    first = mounted("background", origin=origin)
    assert (first.data / name).read_bytes() == path.read_bytes()
    wait_for_state(first, name, "ok")
    assert first.logged("have the manifest's MD5", LONG)
    first.unmount()
    for mode in MODES:
        mount = mounted(mode, origin=origin)
        assert state(mount, name) == "ok"
        assert (mount.data / name).read_bytes() == path.read_bytes()
        time.sleep(1.5)
        assert state(mount, name) == "ok"
        assert "MD5" not in mount.log(), "it was hashed again"
        mount.unmount()


def test_what_an_earlier_mount_did_not_verify_is_verified_when_it_is_opened(lab, big_inventory, mounted, chunk):
    name, path = chunk
    origin = lab.origin(big_inventory.root)
    first = mounted("off", origin=origin)
    assert (first.data / name).read_bytes() == path.read_bytes()
    first.unmount()
    second = mounted("background", origin=origin)
    assert state(second, name) == "pending"
    with open_chunk(second, name):
        pass
    wait_for_state(second, name, "ok")


def test_a_chunk_that_does_not_fit_a_strict_cache_is_read_and_unverifiable(mounted, chunk):
    name, path = chunk
    mount = mounted("strict", "--cache-size", "32MiB")
    for _ in range(2):
        assert (mount.data / name).read_bytes() == path.read_bytes()
    assert state(mount, name) == "unverifiable"
    assert len(mount.logged("too much for this cache")) == 1


def test_a_strict_cache_that_holds_one_chunk_at_a_time_gives_all_of_them(mounted, big_inventory):
    mount = mounted("strict", "--cache-size", "72MiB")
    for name, path in big_inventory.chunks.items():
        assert (mount.data / name).read_bytes() == path.read_bytes(), name
        assert state(mount, name) == "ok"


def test_damaged_blocks_of_the_cache_are_counted(lab, big_inventory, mounted, chunk):
    name, path = chunk
    origin = lab.origin(big_inventory.root)
    first = mounted("off", origin=origin)
    assert first.xattr("user.inventoryfs.damaged_blocks") == "0"
    assert (first.data / name).read_bytes() == path.read_bytes()
    first.unmount()
    # Not the next chunk's, of which a little may have come ahead.
    data = max(first.cache.glob("inventoryfs-cache/chunks-*/*.data"), key=lambda file: file.stat().st_blocks)
    with open(data, "r+b") as file:
        for offset in (MIB, 5 * MIB):
            file.seek(offset)
            file.write(bytes([path.read_bytes()[offset] ^ 1]))
    second = mounted("off", origin=origin)
    assert (second.data / name).read_bytes() == path.read_bytes()
    assert second.xattr("user.inventoryfs.damaged_blocks") == "2"

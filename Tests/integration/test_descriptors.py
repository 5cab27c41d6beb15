"""A process with few file descriptors names the true cause, reads everything, and caches again once it has enough."""

import os
import resource
import sys

import pytest

from harness.inventory import entry, write_manifest
from harness.processes import free_port, wait_until

COUNT = 60


@pytest.fixture
def root(lab):
    return lab.folder / "buckets"


@pytest.fixture
def inventory(root):
    return write_manifest(root, [entry(root, f"data/{number:02}.bin", os.urandom(300_000)) for number in range(COUNT)])


def limited(lab, soft, hard):
    """The program with a limit of open files, as after `ulimit -n`."""
    script = lab.folder / f"limited-{soft}-{hard}"
    script.write_text(f"#!/bin/sh\nexec prlimit --nofile={soft}:{hard} {lab.binary} \"$@\"\n")
    script.chmod(0o755)
    return script


def read_all(mount, inventory, parallel=1):
    """Reads each chunk to its end, `parallel` of them open at once."""
    names = [f"{number:02}.bin" for number in range(COUNT)]
    for start in range(0, COUNT, parallel):
        files = [open(mount.data / name, "rb", buffering=0) for name in names[start:start + parallel]]
        try:
            for name, file in zip(names[start:], files):
                assert file.read() == inventory.path(f"data/{name}").read_bytes()
        finally:
            for file in files:
                file.close()


def test_the_soft_limit_is_raised_to_the_hard_one(lab, root, inventory):
    origin = lab.origin(root)
    mount = lab.mount(inventory.url, binary=limited(lab, 64, 4096), endpoint=origin.endpoint)
    assert resource.prlimit(mount.pid, resource.RLIMIT_NOFILE) == (4096, 4096)
    read_all(mount, inventory)
    assert mount.log() == ""


def test_a_low_hard_limit_is_a_warning_and_everything_is_read_and_cached(lab, root, inventory):
    origin = lab.origin(root)
    mount = lab.mount(inventory.url, binary=limited(lab, 64, 64), endpoint=origin.endpoint)
    warning, = mount.logged("the limit of open files is 64")
    assert "warning" in warning and "are wanted" in warning and "ulimit -Hn" in warning
    read_all(mount, inventory)
    assert mount.log().splitlines() == [warning]
    requests = len(origin.settled_requests())
    for name in (f"{number:02}.bin" for number in range(COUNT)):
        assert mount.cached_bytes(name) == 300_000
    mount.unmount()
    again = lab.mount(inventory.url, binary=limited(lab, 64, 64), endpoint=origin.endpoint)
    read_all(again, inventory)
    chunks = [request for request in origin.settled_requests()[requests:] if request.key.startswith("data/")]
    assert chunks == [], "what is cached is not asked for again"


def test_more_open_chunks_than_descriptors_are_read_and_the_log_names_the_cause(lab, root, inventory):
    origin = lab.origin(root)
    mount = lab.mount(inventory.url, binary=limited(lab, 64, 64), endpoint=origin.endpoint)
    read_all(mount, inventory, parallel=COUNT)
    warning, = mount.logged("no file descriptor left of the 64")
    assert "without caching" in warning and "LimitNOFILE" in warning and "disk" not in warning
    assert "cannot be reached" not in mount.log()
    assert "inventoryfs: error:" not in mount.log()
    mount.logged("caching resumes")
    read_all(mount, inventory)
    wait_until(lambda: all(mount.cached_bytes(f"{number:02}.bin") == 300_000 for number in range(COUNT)),
               "all chunks to be in the cache")


def test_a_limit_that_is_lowered_and_raised_again_stops_caching_for_so_long_only(lab, root, inventory):
    origin = lab.origin(root)
    mount = lab.mount(inventory.url, endpoint=origin.endpoint, cache="cache")
    names = [f"{number:02}.bin" for number in range(COUNT)]
    for name in names[:10]:
        (mount.data / name).read_bytes()
    limits = resource.prlimit(mount.pid, resource.RLIMIT_NOFILE)
    # The connections are idle and stay open: what is read goes through memory. These were not prefetched.
    origin.settled_requests()
    resource.prlimit(mount.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    for name in names[50:40:-1]:
        assert (mount.data / name).read_bytes() == inventory.path(f"data/{name}").read_bytes()
    warning = mount.logged("no file descriptor left of the 3")[0]
    assert "warning" in warning
    assert "cannot be reached" not in mount.log()
    resource.prlimit(mount.pid, resource.RLIMIT_NOFILE, limits)
    mount.logged("caching resumes")
    for name in names:
        assert (mount.data / name).read_bytes() == inventory.path(f"data/{name}").read_bytes()
    wait_until(lambda: all(mount.cached_bytes(name) == 300_000 for name in names), "chunks to be cached again")
    assert "inventoryfs: error:" not in mount.log()


def test_a_connection_that_no_descriptor_is_left_for_is_not_blamed_on_the_store(lab, root, inventory):
    port = free_port()
    origin = lab.origin(root, "--port", port)
    mount = lab.mount(inventory.url, "--read-timeout", "4s", endpoint=origin.endpoint)
    # What was connected is not any more.
    origin.close()
    origin = lab.origin(root, "--port", port)
    limits = resource.prlimit(mount.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(mount.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    result = lab.run(sys.executable, "-c", "import sys; open(sys.argv[1], 'rb').read()", mount.data / "00.bin", timeout=90)
    assert result.returncode == 1
    error = mount.logged("inventoryfs: error:")[0]
    assert "no file descriptor left of the 3" in error and "ulimit -n" in error
    assert "cannot be reached" not in mount.log() and "answers again" not in mount.log()
    resource.prlimit(mount.pid, resource.RLIMIT_NOFILE, limits)
    assert wait_until(lambda: lab.run("cmp", mount.data / "00.bin", inventory.path("data/00.bin")).returncode == 0, "the chunk to be readable again")


@pytest.mark.parametrize("limit", [6, 14, 23])
def test_a_limit_that_is_too_low_is_refused(lab, root, inventory, limit):
    origin = lab.origin(root)
    result = lab.run(limited(lab, limit, limit), "mount", inventory.url, lab.mountpoint(), "--endpoint-url", origin.endpoint,
                     "--cache-dir", lab.folder / "cache")
    assert result.returncode == 1
    assert f"the limit of open files is {limit}, and at least 24 are needed" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_lowest_limit_that_is_accepted_is_enough_to_read_everything(lab, root, inventory):
    origin = lab.origin(root)
    mount = lab.mount(inventory.url, binary=limited(lab, 24, 24), endpoint=origin.endpoint)
    read_all(mount, inventory)
    assert "inventoryfs: error:" not in mount.log()

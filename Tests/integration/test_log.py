"""The log says what happened, once, at the level that it deserves, and keeps nobody waiting."""

import errno
import fcntl
import json
import os
import re

import pytest

from harness.inventory import BUCKET, entry, write_manifest
from harness.processes import free_port, wait_until

SIZE = 9_000_000
CHUNKS = {"keySuffix": ".bin"}


@pytest.fixture
def root(lab):
    return lab.folder / "buckets"


@pytest.fixture
def inventory(root):
    return write_manifest(root, [entry(root, f"data/{name}.bin", os.urandom(SIZE)) for name in ("one", "two")])


def plan(fault, match={**CHUNKS, "skippingFirst": 1}):
    """By default a fault of all requests for chunks but the first, which is the mount's, for a byte."""
    return {"rules": [{"match": match, "fault": fault}]}


def set_faults(lab, origin, content):
    result = lab.run("curl", "-sS", "-f", "-X", "PUT", "--data-binary", json.dumps(content), f"{origin.endpoint}/-/faults")
    assert result.returncode == 0, result.stderr


def lines(mount, level):
    return [line for line in mount.log().splitlines() if line.startswith(f"inventoryfs: {level}:")]


def cat(lab, mount, name="one.bin"):
    return lab.run("dd", f"if={mount.data / name}", "of=/dev/null", "bs=1M", timeout=90).returncode


DENIED = {"kind": "status", "status": 403, "code": "AccessDenied"}


@pytest.mark.parametrize("fault, words", [
    (DENIED, ["failed: access denied", "s3:GetObject"]),
    ({"kind": "status", "status": 500, "code": "InternalError"}, ["took longer than --read-timeout 3 s", "InternalError", "Try again"]),
    ({"kind": "hangBeforeHead"}, ["took longer than --read-timeout 3 s", "Check the network"]),
    ({"kind": "cutBody", "afterBytes": 0}, ["took longer than --read-timeout 3 s", "broke"]),
    ({"kind": "wrongLength", "differingBy": 7}, ["failed: the manifest says 9000000 bytes", "check the manifest"]),
], ids=["denied", "500", "hang", "cut", "length"])
def test_a_program_s_read_that_fails_is_one_error_with_its_range_cause_and_next_step(lab, root, inventory, fault, words):
    origin = lab.origin(root, fault_plan=plan(fault, {**CHUNKS, "rangeOverlaps": [4_000_000, SIZE]}))
    mount = lab.mount(inventory.url, "--read-timeout", "3s", endpoint=origin.endpoint)
    assert cat(lab, mount) == 1
    mount.logged("inventoryfs: error:")
    wait_until(lambda: mount.xattr("user.inventoryfs.waiting") == "0", "all waits to end")
    origin.settled_requests()
    errors = lines(mount, "error")
    assert len(errors) == 1, errors
    for part in [f"s3://{BUCKET}/data/one.bin: reading bytes ", *words]:
        assert part in errors[0], errors[0]
    assert re.search(r"reading bytes \d+-\d+ ", errors[0])


def test_the_same_failure_again_is_summed_up_and_another_chunk_s_is_not(lab, root, inventory):
    origin = lab.origin(root, fault_plan=plan(DENIED))
    mount = lab.mount(inventory.url, endpoint=origin.endpoint)
    for _ in range(20):
        assert cat(lab, mount) == 1
    assert cat(lab, mount, "two.bin") == 1
    wait_until(lambda: any("two.bin" in line for line in lines(mount, "error")), "the second chunk's error")
    errors = lines(mount, "error")
    assert sorted(line.split(": ")[2] for line in errors) == [f"s3://{BUCKET}/data/{name}.bin" for name in ("one", "two")]


def test_read_ahead_that_fails_and_that_nobody_waits_for_is_for_debug(lab, root, inventory):
    origin = lab.origin(root, fault_plan=plan(DENIED, {**CHUNKS, "rangeOverlaps": [1_100_000, SIZE]}))
    mount = lab.mount(inventory.url, "--log-level", "debug", endpoint=origin.endpoint)
    with open(mount.data / "one.bin", "rb", buffering=0) as file:
        # What the kernel reads ahead is not told apart from what a program reads.
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for number in range(12):
            assert len(os.pread(file.fileno(), 65536, number * 65536)) == 65536
        mount.logged("which no reader waits for")
    assert lines(mount, "error") == [] and lines(mount, "warning") == []
    assert all(line.startswith("inventoryfs: debug:") for line in mount.logged("which no reader waits for"))


def test_a_store_that_answers_again_is_a_notice(lab, root, inventory):
    port = free_port()
    origin = lab.origin(root, "--port", port)
    mount = lab.mount(inventory.url, "--read-timeout", "2s", endpoint=origin.endpoint)
    origin.close()
    assert cat(lab, mount) == 1
    assert "cannot be reached" in mount.logged("inventoryfs: error:")[0]
    assert lines(mount, "notice") == []
    lab.origin(root, "--port", port)
    wait_until(lambda: cat(lab, mount) == 0, "the chunk to be readable again")
    notice, = mount.logged("the store answers again")
    assert re.search(r"notice: the store answers again, [\d.]+ m?s after the first of \d+ failed requests?$", notice), notice
    assert cat(lab, mount, "two.bin") == 0
    assert len(lines(mount, "notice")) == 1


def test_a_failure_that_passes_unnoticed_is_no_notice(lab, root, inventory):
    fault = {"kind": "status", "status": 503, "code": "SlowDown"}
    rule = {"match": {**CHUNKS, "nth": 1}, "times": 1, "fault": fault}
    origin = lab.origin(root, fault_plan={"rules": [rule]})
    mount = lab.mount(inventory.url, endpoint=origin.endpoint)
    assert cat(lab, mount) == 0
    assert mount.log() == ""


def test_the_trace_has_every_request_with_its_end(lab, root, inventory):
    origin = lab.origin(root)
    mount = lab.mount(inventory.url, "--log-level", "trace", endpoint=origin.endpoint)
    mount.xattr("user.s3.etag", "two.bin")
    assert cat(lab, mount) == 0
    origin.settled_requests()
    requests = origin.all_requests()

    def ends():
        pattern = r"trace: (GET|HEAD) s3://[^/]+/(\S+)(?: bytes (\d+)-(\d+))?: HTTP (\d+), (\d+) bytes in [\d.]+ m?s$"
        return [re.search(pattern, line).groups() for line in lines(mount, "trace") if ": HTTP " in line]

    wait_until(lambda: len(ends()) == len(requests), "all ends")
    assert {"GET", "HEAD"} == {request.method for request in requests}
    traced = sorted((method, key, int(status), int(count)) for method, key, _, _, status, count in ends())
    assert traced == sorted((r.method, r.key, r.status, r.body_bytes if r.status < 300 else 0) for r in requests
                            if r.status < 300) + sorted(t for t in traced if t[2] >= 300)
    ranges = sorted((int(first), int(last)) for _, key, first, last, _, _ in ends() if first and key == "data/one.bin")
    # The mount has asked for a byte.
    assert ranges.pop(0) == (0, 0)
    assert ranges[0][0] == 0 and ranges[-1][1] == SIZE - 1
    assert all(end + 1 == start for (_, end), (start, _) in zip(ranges, ranges[1:]))
    assert len([line for line in lines(mount, "trace") if line.endswith(": sent")]) == len(requests)


def test_a_log_that_hangs_keeps_no_reader_waiting_and_says_later_what_is_missing(lab, root):
    names = [f"{number}.bin" for number in range(700)]
    inventory = write_manifest(root, [entry(root, f"data/{name}", os.urandom(100)) for name in names])
    pipe = lab.folder / "log"
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, 4096)
    origin = lab.origin(root)
    mount = lab.mount(inventory.url, "--log-file", pipe, "--log-level", "trace", endpoint=origin.endpoint)
    # Each request has two lines.
    for name in names:
        assert (mount.data / name).read_bytes() == inventory.path(f"data/{name}").read_bytes()
    text = bytearray()

    def drain():
        try:
            text.extend(os.read(end, 65536))
        except BlockingIOError:
            pass
        return b"lines are missing here" in text

    wait_until(drain, "the log to say what is missing")
    os.close(end)


def test_attributes_of_a_store_that_is_away_are_not_waited_for(lab, root):
    names = [f"{number}.bin" for number in range(40)]
    inventory = write_manifest(root, [entry(root, f"data/{name}", os.urandom(1000)) for name in names])
    origin = lab.origin(root, fault_plan=plan({"kind": "hangBeforeHead"}))
    mount = lab.mount(inventory.url, "--read-timeout", "1h", endpoint=origin.endpoint)
    for name in names:
        with pytest.raises(OSError) as raised:
            mount.xattr("user.s3.etag", name)
        assert raised.value.errno == errno.ENODATA
    assert len([request for request in origin.requests() if request.method == "HEAD"]) < len(names) / 2
    warning, = mount.logged("asking for its ETag")
    assert "warning" in warning and "2 s at most" in warning


def test_the_etag_that_the_cache_knows_is_not_asked_for(lab, root, inventory):
    origin = lab.origin(root)
    first = lab.mount(inventory.url, endpoint=origin.endpoint)
    assert cat(lab, first) == 0
    eTag = first.xattr("user.s3.etag", "one.bin")
    first.unmount()
    second = lab.mount(inventory.url, endpoint=origin.endpoint)
    before = origin.stats()["totals"]["requests"]
    assert second.xattr("user.s3.etag", "one.bin") == eTag
    assert lab.run("getfattr", "-d", "--absolute-names", second.data / "one.bin").returncode == 0
    assert origin.stats()["totals"]["requests"] == before

"""Whatever the store does, a reader gets the right bytes or the documented errno, within `--read-timeout`."""

import errno
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import urllib.error

import pytest

from harness.inventory import BUCKET, entry, write_manifest
from harness.processes import free_port, wait_until
from harness.seaweedfs import ACCESS_KEY, SECRET_KEY

SIZE = 9_000_000
TOKEN = "token+that/nobody=may-see"
CHUNKS = {"keySuffix": ".bin"}
# Prints the MD5 of a file, or the errno with which opening or reading it fails.
READ = """
import hashlib, os, sys
try:
    with open(sys.argv[1], "rb", buffering=0) as file:
        digest = hashlib.md5()
        while piece := file.read(1 << 20):
            digest.update(piece)
    print(digest.hexdigest())
except OSError as error:
    print("errno", error.errno)
"""


@pytest.fixture
def root(lab):
    return lab.folder / "buckets"


@pytest.fixture
def inventory(root):
    return write_manifest(root, [entry(root, "data/one.bin", os.urandom(SIZE))])


def read(lab, mount, name="one.bin"):
    return lab.run(sys.executable, "-c", READ, mount.data / name, timeout=90).stdout.strip()


def digest(inventory):
    return inventory.manifest["files"][0]["MD5checksum"]


def plan(fault, times=None, match={**CHUNKS, "skippingFirst": 1}):
    """By default a fault of all requests for chunks but the first, which is the mount's, for a byte."""
    rule = {"match": match, "fault": fault}
    return {"rules": [rule if times is None else {**rule, "times": times}]}


def fault_count(origin):
    """Once the origin takes connections again, where refusing them is the fault."""

    def stats():
        try:
            return origin.stats()
        except urllib.error.URLError:
            return None

    return sum(wait_until(stats, "the origin to answer")["totals"]["faultsByKind"].values())


def set_faults(lab, origin, content):
    result = lab.run("curl", "-sS", "-f", "-X", "PUT", "--data-binary", json.dumps(content),
                     f"{origin.endpoint}/-/faults")
    assert result.returncode == 0, result.stderr


PASSING = {
    "cut body": {"kind": "cutBody", "afterBytes": 300_000},
    "reset in the body": {"kind": "resetBody", "afterBytes": 300_000},
    "stall in the body": {"kind": "stallBody", "afterBytes": 300_000},
    "hang before the head": {"kind": "hangBeforeHead"},
    "one byte a second": {"kind": "trickle", "bytesPerSecond": 1},
    "500": {"kind": "status", "status": 500, "code": "InternalError"},
    "503": {"kind": "status", "status": 503, "code": "SlowDown", "retryAfter": 1},
    "429": {"kind": "status", "status": 429, "code": "TooManyRequests"},
    "refused for 2 s": {"kind": "refuse", "milliseconds": 2000},
    "clock skew": {"kind": "clockSkew"},
}


@pytest.mark.parametrize("name", PASSING)
@pytest.mark.parametrize("nth", [1, 2])
def test_a_fault_that_passes_costs_time_and_nothing_else(lab, root, inventory, name, nth):
    # The first request is the mount's, for a byte.
    origin = lab.origin(root, fault_plan=plan(PASSING[name], times=1, match={**CHUNKS, "nth": nth + 1}))
    # A quarter of it is waited for an answer, or for a body that has stalled.
    mount = lab.mount(inventory.url, "--read-timeout", "12s", endpoint=origin.endpoint)
    assert read(lab, mount) == digest(inventory)
    assert fault_count(origin) == 1, "the fault has happened"


def test_a_storm_of_503_passes_and_makes_no_storm_of_retries(lab, root, inventory):
    storm = plan({"kind": "status", "status": 503, "code": "SlowDown"}, times=40, match={**CHUNKS, "probability": 0.7})
    origin = lab.origin(root, fault_plan={"seed": 5, **storm})
    mount = lab.mount(inventory.url, endpoint=origin.endpoint)
    assert read(lab, mount) == digest(inventory)
    assert origin.stats()["totals"]["requests"] < 120


LASTING = {
    "200 instead of 206": ({"kind": "ignoreRange"}, errno.EIO),
    "wrong Content-Range": ({"kind": "wrongContentRange", "shiftedBy": 65536}, errno.EIO),
    "longer than the manifest says": ({"kind": "wrongLength", "differingBy": 7}, errno.EIO),
    "shorter than the manifest says": ({"kind": "wrongLength", "differingBy": -7}, errno.EIO),
    "hang before the head": ({"kind": "hangBeforeHead"}, errno.EIO),
    "one byte a second": ({"kind": "trickle", "bytesPerSecond": 1}, errno.EIO),
    "500": ({"kind": "status", "status": 500, "code": "InternalError"}, errno.EIO),
    "503": ({"kind": "status", "status": 503, "code": "SlowDown", "retryAfter": 1}, errno.EIO),
    "reset at once": ({"kind": "resetBody", "afterBytes": 0}, errno.EIO),
    "expired token": ({"kind": "status", "status": 403, "code": "ExpiredToken"}, errno.EACCES),
    "denied": ({"kind": "status", "status": 403, "code": "AccessDenied"}, errno.EACCES),
    "gone": ({"kind": "status", "status": 404, "code": "NoSuchKey"}, errno.ENOENT),
    "changed": ({"kind": "status", "status": 412, "code": "PreconditionFailed"}, errno.ESTALE),
    "moved to another region": ({"kind": "redirect", "region": "eu-west-1"}, errno.EIO),
    "clock skew": ({"kind": "clockSkew"}, errno.EIO),
}


@pytest.mark.parametrize("name", LASTING)
@pytest.mark.parametrize("first", [0, 1], ids=["from the first request on", "from the second on"])
def test_a_fault_that_stays_is_the_documented_errno_and_heals(lab, root, inventory, name, first):
    fault, expected = LASTING[name]
    origin = lab.origin(root, fault_plan=plan(fault, match={**CHUNKS, "skippingFirst": first + 1}))
    # EIO is what is waited for too long, too.
    timeout = "2s" if expected == errno.EIO else "60s"
    mount = lab.mount(inventory.url, "--read-timeout", timeout, endpoint=origin.endpoint)
    assert read(lab, mount) == f"errno {expected}"
    assert mount.logged("one.bin"), "the log names the object"
    set_faults(lab, origin, {"rules": []})
    wait_until(lambda: read(lab, mount) == digest(inventory), "the chunk to be readable again", poll_seconds=0.1)


def test_the_log_says_what_was_waited_for_and_why(lab, root, inventory):
    origin = lab.origin(root, fault_plan=plan({"kind": "status", "status": 500, "code": "InternalError"}))
    mount = lab.mount(inventory.url, "--read-timeout", "3s", endpoint=origin.endpoint)
    assert read(lab, mount) == f"errno {errno.EIO}"
    line = mount.logged("--read-timeout")[0]
    for part in (f"s3://{BUCKET}/data/one.bin", "opening it", "--read-timeout 3 s", "InternalError"):
        assert part in line


@pytest.mark.parametrize("count", [4096, 131_072, 1 << 20])
def test_a_read_of_the_reader_s_own_ends_in_time(lab, root, inventory, count):
    """Linux asks twice for a page of its read-ahead that fails. The reader waits for both: the second is not to be long."""
    origin = lab.origin(root, fault_plan=plan({"kind": "hangBeforeHead"}, match={**CHUNKS, "skippingFirst": 2}))
    # The log has one error; the kernel's other requests of the same read are for debug.
    mount = lab.mount(inventory.url, "--read-timeout", "3s", "--log-level", "debug", endpoint=origin.endpoint)
    with open(mount.data / "one.bin", "rb", buffering=0) as file:
        with pytest.raises(OSError) as raised:
            os.pread(file.fileno(), count, 5_000_000)
    assert raised.value.errno == errno.EIO
    waits = [re.search(r"reading bytes (\d+)-(\d+)", line) for line in mount.logged("took longer than --read-timeout")]
    ranges = sorted((int(wait[1]), int(wait[2])) for wait in waits)
    assert ranges[0][0] <= 5_000_000
    assert all(end < start for (_, end), (start, _) in zip(ranges, ranges[1:])), "no byte was waited for twice"


def test_an_object_replaced_while_it_is_read_is_stale_and_then_new(lab, root, inventory):
    origin = lab.origin(root)
    mount = lab.mount(inventory.url, "--verify=off", endpoint=origin.endpoint)
    new = os.urandom(SIZE)
    with open(mount.data / "one.bin", "rb", buffering=0) as file:
        assert os.pread(file.fileno(), 4096, 0) == inventory.path("data/one.bin").read_bytes()[:4096]
        inventory.path("data/one.bin").write_bytes(new)
        with pytest.raises(OSError) as raised:
            os.pread(file.fileno(), 4096, SIZE - 5000)
    assert raised.value.errno == errno.ESTALE

    def read_anew():
        try:
            return (mount.data / "one.bin").read_bytes()
        except OSError as error:
            assert error.errno == errno.ESTALE, "until the last reader's end has been heard of"

    # The kernel still has pages of the old one.
    assert wait_until(read_anew, "the chunk to be readable again") == new


def test_a_store_that_is_down_when_mounting_is_waited_for(lab, root, inventory):
    # Of the two connections a refusal closes one: on the other all would come at once.
    faults = [plan(fault, times=1, match={"keyPrefix": "inv/"})["rules"][0]
              for fault in ({"kind": "refuse", "milliseconds": 3000}, {"kind": "resetBody", "afterBytes": 0})]
    origin = lab.origin(root, fault_plan={"rules": faults})
    mount = lab.mount(inventory.url, endpoint=origin.endpoint)
    assert read(lab, mount) == digest(inventory)


@pytest.mark.parametrize("kind", ["hangBeforeHead", "status"])
def test_the_etag_of_a_store_that_fails_is_no_attribute_within_the_bound(lab, root, inventory, kind):
    fault = {"kind": kind} if kind != "status" else {"kind": kind, "status": 500, "code": "InternalError"}
    origin = lab.origin(root, fault_plan=plan(fault))
    # For so long nobody waits for an attribute.
    mount = lab.mount(inventory.url, "--read-timeout", "1h", endpoint=origin.endpoint)
    with pytest.raises(OSError) as raised:
        mount.xattr("user.s3.etag", "one.bin")
    assert raised.value.errno == errno.ENODATA


def test_asking_for_etags_of_a_store_that_hangs_keeps_nobody_else_waiting(lab, root):
    """Not who reads what is in the cache, nor who looks around; and who asks is told soon, or can be interrupted."""
    inventory = write_manifest(root, [entry(root, f"data/{number}.bin", os.urandom(100_000)) for number in range(12)])
    origin = lab.origin(root, fault_plan=plan({"kind": "hangBeforeHead"}, match={"method": "HEAD"}))
    mount = lab.mount(inventory.url, "--read-timeout", "1h", endpoint=origin.endpoint)
    expected = inventory.path("data/0.bin").read_bytes()
    assert (mount.data / "0.bin").read_bytes() == expected
    askers = [lab.spawn(sys.executable, "-c", "import os, sys; os.getxattr(sys.argv[1], 'user.s3.etag')",
                        mount.data / f"{number}.bin", stderr=subprocess.DEVNULL) for number in range(1, 12)]
    wait_until(lambda: origin.stats()["totals"]["faultsByKind"].get("hangBeforeHead", 0) >= 4, "requests that hang")
    os.statvfs(mount.path)
    assert (mount.data / "0.bin").read_bytes() == expected
    for asker in askers:
        asker.send_signal(signal.SIGINT)
    for asker in askers:
        asker.wait(60)


def test_a_connection_that_is_far_slower_than_the_others_is_not_waited_for(lab, root):
    """A MiB at 20 kB/s would take 52 s; another connection has it at once."""
    inventory = write_manifest(root, [entry(root, f"data/{name}.bin", os.urandom(SIZE)) for name in ("one", "two")])
    slow = {"keySuffix": "two.bin", "rangeOverlaps": [5_000_000, 5_000_001]}
    origin = lab.origin(root, fault_plan=plan({"kind": "trickle", "bytesPerSecond": 20_000}, times=1, match=slow))
    mount = lab.mount(inventory.url, "--read-timeout", "20s", endpoint=origin.endpoint)
    # From which it is known what is usual.
    assert read(lab, mount) == digest(inventory)
    assert read(lab, mount, "two.bin") == inventory.manifest["files"][1]["MD5checksum"]
    assert fault_count(origin) == 1


@pytest.mark.parametrize("doing", ["opening", "reading"])
def test_what_nobody_wants_any_more_is_cancelled(lab, root, inventory, doing):
    """The reader ends at once either way. So does what an open asked for; what the kernel's read-ahead asked for keeps
    the file open, and cannot be interrupted (Linux never says so), until it fails at its time."""
    skipped = 1 if doing == "opening" else 2
    options = ["--read-timeout", "1h" if doing == "opening" else "4s"]
    origin = lab.origin(root, fault_plan=plan({"kind": "hangBeforeHead"}, match={**CHUNKS, "skippingFirst": skipped}))
    mount = lab.mount(inventory.url, *options, endpoint=origin.endpoint)
    idle = origin.stats()["connections"]["live"]
    reader = lab.spawn("cat", mount.data / "one.bin", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    hanging = 1 if doing == "opening" else 4
    wait_until(lambda: origin.stats()["totals"]["faultsByKind"].get("hangBeforeHead", 0) >= hanging, "requests that hang")
    reader.send_signal(signal.SIGINT)
    assert reader.wait(60) == -signal.SIGINT
    wait_until(lambda: is_quiet(origin, idle), "the end of all requests")


def is_quiet(origin, idle, seconds=2):
    """Whether nothing is asked for during some seconds, longer than any request hangs, and no connection waits."""
    before = origin.stats()
    time.sleep(seconds)
    after = origin.stats()
    return before["totals"] == after["totals"] and after["connections"]["live"] <= idle


def test_renewed_credentials_are_found_when_the_old_ones_expire(lab, root, inventory):
    """The origin knows the new ones only; the manifest was read while it had a fault that let the old ones in."""
    credentials = lab.folder / "home" / ".aws" / "credentials"
    credentials.parent.mkdir()

    def write(secret, token):
        credentials.write_text(f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {secret}\n"
                               f"aws_session_token = {token}\n")

    port = free_port()
    first = lab.origin(root, "--port", port, "--session-token", "old")
    write(SECRET_KEY, "old")
    mount = lab.mount(inventory.url, endpoint=first.endpoint, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
    first.close()
    lab.origin(root, "--port", port, "--session-token", "new")
    assert read(lab, mount) == f"errno {errno.EACCES}", "the token is invalid and has not been renewed"
    write(SECRET_KEY, "new")
    # For what the store refuses they are looked for once a second.
    wait_until(lambda: read(lab, mount) == digest(inventory), "the new ones to be found", poll_seconds=0.2)


def test_a_wrong_region_is_corrected(lab, root, inventory):
    origin = lab.origin(root, "--region", "eu-south-1")
    mount = lab.mount(inventory.url, "--region", "us-east-1", endpoint=origin.endpoint)
    assert read(lab, mount) == digest(inventory)


def test_secrets_appear_nowhere(lab, root, inventory):
    """Not in the log at its most talkative, attributes, arguments, or on the network; the environment holds what was put
    there by who started it, and is readable by the same user only."""
    faults = {"rules": [plan(fault, times=2, match={**CHUNKS, "probability": 0.5})["rules"][0]
                        for fault in PASSING.values() if fault["kind"] in ("status", "cutBody", "clockSkew")]
              + plan({"kind": "redirect", "region": "eu-west-1"}, match={**CHUNKS, "nth": 9})["rules"]}
    origin = lab.origin(root, "--session-token", TOKEN, fault_plan=faults)
    mount = lab.mount(inventory.url, "--log-level", "trace", endpoint=origin.endpoint, AWS_SESSION_TOKEN=TOKEN)
    read(lab, mount)
    process = pathlib.Path(f"/proc/{mount.pid}")
    texts = {"log": mount.log(), "arguments": (process / "cmdline").read_text()}
    for path in (mount.path, mount.data / "one.bin"):
        hidden = [] if path == mount.path else [
            f"user.inventoryfs.{name}" for name in ("verified", "read_path", "cached_bytes")]
        for name in os.listxattr(path) + hidden:
            texts[f"{path} {name}"] = mount.xattr(name, None if path == mount.path else "one.bin")
    assert "retrying in" in texts["log"], "the log is as talkative as it can be"
    for where, text in texts.items():
        for secret in (SECRET_KEY, TOKEN, "AWS4-HMAC"):
            assert secret not in text, f"{secret} is in {where}"
    limits = (process / "limits").read_text()
    assert [line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core file size")] == [["1", "1"]]


def test_a_redirect_is_not_followed(lab, root, inventory):
    """Every request of the mount goes to the endpoint; the host that the redirect names is never looked up."""
    origin = lab.origin(root, fault_plan=plan({"kind": "redirect", "region": "eu-west-1"}))
    mount = lab.mount(inventory.url, "--log-level", "trace", endpoint=origin.endpoint)
    assert read(lab, mount) == f"errno {errno.EIO}"
    assert origin.stats()["totals"]["requests"] <= 5, "the manifest, its checksum, a byte of the chunk, the chunk twice"
    assert "amazonaws" not in mount.log()


@pytest.mark.parametrize("value", ["0", "-1s", "10 weeks", "2d", "", "1e9", "s"])
def test_a_read_timeout_that_makes_no_sense_is_refused(lab, inventory, value):
    result = lab.inventoryfs("mount", inventory.manifest_path, lab.mountpoint(), f"--read-timeout={value}")
    assert result.returncode != 0 and "read-timeout" in result.stderr

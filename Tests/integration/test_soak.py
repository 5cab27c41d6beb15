"""A short soak (Tests/soak is the long one; docs/RELIABILITY.md says what it asserts), and that it notices things."""

import os
import random
import subprocess
import sys

import pytest

from harness.inventory import entry, write_manifest
from soak import report
from soak.run import Options, Soak


def soak(lab, seconds, is_enough=None, **options):
    seed = int(os.environ.get("SOAK_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"seed {seed} (SOAK_SEED={seed} plays it again)")
    figures = Soak(lab, Options(seconds=seconds, seed=seed, **options), say=print, is_enough=is_enough).run()
    print(report.text(figures))
    return figures


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seconds", [30, pytest.param(120, marks=pytest.mark.nightly)])
def test_under_faults_and_restarts_no_byte_is_wrong_and_all_bounds_hold(lab, seconds):
    figures = soak(lab, seconds, seconds_between_restarts=9)
    assert figures["problems"] == []
    # And it was a soak.
    assert figures["calls"] > 1000 and figures["bytes_compared"] > 100 << 20
    assert len(figures["faults"]) >= 3 and sum(figures["faults"].values()) > 20
    assert all(figures["restarts"].values()), figures["restarts"]
    assert figures["killed"] > 0
    assert figures["highest"]["cache_bytes"] > figures["bounds"]["cache_bytes"] // 2, "the cache was hardly used"


@pytest.mark.timeout(300)
def test_a_soak_notices_wrong_bytes_and_bounds_that_are_exceeded(lab):
    """Each of these must show, or that none of them does above would mean nothing."""
    def missing(problems):
        return [complaint for complaint in (
            "WRONG BYTES", "bytes of resident memory (VmHWM), over", "file descriptors, over",
            "allocated by the cache, over") if not any(complaint in problem for problem in problems)]

    figures = soak(lab, 100, lambda problems: not missing(problems), readers=6, no_faults=True, wrong_bytes=0.2,
                   memory_mib=10, descriptors=8, cache_bound_mib=4, seconds_between_restarts=1000)
    assert missing(figures["problems"]) == []


OPEN_READ_CLOSE = """
import collections, errno, os, random, sys
folder, seed, count = sys.argv[1:]
rng, names, failures = random.Random(seed), sorted(os.listdir(folder)), collections.Counter()
for _ in range(int(count)):
    try:
        descriptor = os.open(f"{folder}/{rng.choice(names)}", os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.pread(descriptor, 4096, rng.randrange(100_000))
        os.close(descriptor)
    except OSError as error:
        failures[errno.errorcode[error.errno]] += 1
sys.exit(str(dict(failures)) if failures else 0)
"""


@pytest.mark.timeout(300)
def test_opening_more_chunks_than_are_kept_open_never_fails(lab):
    """Found by the soak: a chunk that another reader's close had unloaded in between failed to open, with ESHUTDOWN."""
    made = write_manifest(lab.folder, [entry(lab.folder, f"data/{number}.bin", os.urandom(100_000))
                                       for number in range(200)])
    mount = lab.mount(made.url, "--cache-size", "16MiB", endpoint=lab.origin(lab.folder).endpoint)
    readers = [lab.spawn(sys.executable, "-c", OPEN_READ_CLOSE, mount.data, number, 2000, stderr=subprocess.PIPE)
               for number in range(16)]
    assert [reader.communicate()[1].decode() for reader in readers] == [""] * len(readers)

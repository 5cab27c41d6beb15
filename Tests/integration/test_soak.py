"""A short soak (Tests/soak is the long one; docs/RELIABILITY.md says what it asserts), and that it notices things."""

import os
import random

import pytest

from soak import report
from soak.run import Options, Soak


def soak(lab, seconds, **options):
    seed = int(os.environ.get("SOAK_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"seed {seed} (SOAK_SEED={seed} plays it again)")
    figures = Soak(lab, Options(seconds=seconds, seed=seed, **options), say=print).run()
    print(report.text(figures))
    return figures


@pytest.mark.slow
@pytest.mark.limit(400)
def test_under_faults_and_restarts_no_byte_is_wrong_and_all_bounds_hold(lab):
    figures = soak(lab, 45, seconds_between_restarts=12)
    assert figures["problems"] == []
    # And it was a soak.
    assert figures["calls"] > 1000 and figures["bytes_compared"] > 100 << 20
    assert len(figures["faults"]) >= 5 and sum(figures["faults"].values()) > 50
    assert all(figures["restarts"].values()), figures["restarts"]
    assert figures["killed"] > 0
    assert figures["highest"]["cache_bytes"] > figures["bounds"]["cache_bytes"] // 2, "the cache was hardly used"


@pytest.mark.limit(240)
def test_a_soak_notices_wrong_bytes_and_bounds_that_are_exceeded(lab):
    """Each of these must show, or that none of them does above would mean nothing."""
    figures = soak(lab, 3, readers=6, no_faults=True, wrong_bytes=0.2, memory_mib=10, descriptors=8, cache_bound_mib=4)
    for complaint in ("WRONG BYTES", "bytes of resident memory (VmHWM), over", "file descriptors, over",
                      "allocated by the cache, over"):
        assert any(complaint in problem for problem in figures["problems"]), complaint

"""A short soak (Tests/soak is the long one, docs/RELIABILITY.md what it asserts), and that it notices what it is for."""

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
    figures = soak(lab, 45, seconds_between_restarts=15)
    assert figures["problems"] == []
    # And it was a soak.
    assert figures["calls"] > 1000 and figures["bytes_compared"] > 100 << 20
    assert len(figures["faults"]) >= 5 and sum(figures["faults"].values()) > 50
    assert all(figures["restarts"].values()), figures["restarts"]
    assert figures["killed"] > 0
    assert figures["highest"]["cache_bytes"] > figures["bounds"]["cache_bytes"] // 2, "the cache was hardly used"


@pytest.mark.limit(240)
@pytest.mark.parametrize("provocation, complaint", [
    ({"wrong_bytes": True}, "WRONG BYTES"),
    ({"memory_mib": 10}, "bytes of resident memory (VmHWM), over the bound of"),
    ({"descriptors": 8}, "file descriptors, over the bound of 8"),
    ({"cache_bound_mib": 4}, "allocated by the cache, over the bound of"),
], ids=lambda value: next(iter(value)) if isinstance(value, dict) else "")
def test_a_soak_notices(lab, provocation, complaint):
    figures = soak(lab, 3, readers=6, no_faults=True, **provocation)
    assert any(complaint in problem for problem in figures["problems"]), figures["problems"]

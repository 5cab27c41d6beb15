"""What the store does wrong, and when. Every few seconds another plan, drawn by the seed.

Most of the time each request may meet any of the faults; now and then one kind comes in a storm, and now and then all
is well for a while, so that chunks get whole and are read by the kernel itself. All faults are of chunks: the manifest
is read at a restart, and that the daemon starts is not in question here.
"""

import json
import random
import time
import urllib.request

from . import chunks

# Kept short of the read timeout's quarter: what is refused for longer is an error, rightly.
LONGEST_REFUSAL_MS = 1500


def status(number, code, **more):
    return {"kind": "status", "status": number, "code": code, **more}


def every_kind(rng):
    """name -> (probability when all are mixed, the fault)."""
    after = rng.choice([0, 1, 1000, 65_536, 65_537, 300_000, rng.randrange(1 << 20)])
    return {
        "cut body": (0.02, {"kind": "cutBody", "afterBytes": after}),
        "reset body": (0.02, {"kind": "resetBody", "afterBytes": after}),
        "stalled body": (0.004, {"kind": "stallBody", "afterBytes": after}),
        "whole object instead of a range": (0.006, {"kind": "ignoreRange"}),
        "wrong Content-Range": (0.006, {"kind": "wrongContentRange", "shiftedBy": rng.choice([-65_536, -1, 1, 4096])}),
        "wrong length": (0.006, {"kind": "wrongLength", "differingBy": rng.choice([-4096, -1, 1, 65_536])}),
        "no answer": (0.004, {"kind": "hangBeforeHead"}),
        "slow bytes": (0.01, {"kind": "trickle", "bytesPerSecond": rng.choice([500, 20_000, 200_000])}),
        "late answer": (0.02, {"kind": "delay", "milliseconds": rng.randrange(50, 2000)}),
        "500": (0.02, status(500, "InternalError")),
        "503": (0.02, status(503, "SlowDown", **rng.choice([{}, {"retryAfter": 1}]))),
        "403": (0.004, status(403, "AccessDenied")),
        "404": (0.004, status(404, "NoSuchKey")),
        "412": (0.004, status(412, "PreconditionFailed")),
        "refused connection": (0.002, {"kind": "refuse", "milliseconds": rng.randrange(100, LONGEST_REFUSAL_MS)}),
        "clock skew": (0.002, {"kind": "clockSkew"}),
        "another region": (0.002, {"kind": "redirect", "region": "eu-west-1"}),
    }


def draw_plan(rng, no_faults=False, wrong_bytes=0.0):
    """(a name for it, the plan, for how many seconds)."""
    kinds = every_kind(rng)
    draw = rng.random()
    if draw < 0.15 or no_faults:
        name, seconds, rules = "calm", rng.uniform(2, 6), []
    elif draw < 0.35:
        name = rng.choice(sorted(kinds))
        seconds, rules = rng.uniform(1, 3), [rule(kinds[name][1], rng.choice([0.3, 0.6, 1.0]))]
        name = f"storm: {name}"
    else:
        name, seconds = "mixed", rng.uniform(3, 8)
        factor = rng.choice([0.5, 1, 2])
        rules = [rule(fault, probability * factor) for probability, fault in kinds.values()]
    if wrong_bytes:
        rules.insert(0, rule({"kind": "wrongBytes", "atOffset": rng.choice([0, 1000, 65_536, 1 << 30])}, wrong_bytes))
    return name, {"seed": rng.getrandbits(32), "rules": rules}, seconds


def rule(fault, probability):
    match = {"keyPrefix": chunks.PREFIX, "probability": probability}
    # A refusal closes the listener for all: more than one at a time adds nothing.
    times = {"times": 2} if fault["kind"] == "refuse" else {}
    return {"match": match, "fault": fault, **times}


def generator(seed):
    return random.Random(f"{seed}/faults")


def put(endpoint, plan):
    """Replaces the plan."""
    request = urllib.request.Request(f"{endpoint}/-/faults", json.dumps(plan).encode(), method="PUT")
    when_reachable(lambda: urllib.request.urlopen(request, timeout=10).close())


def when_reachable(ask, seconds=20):
    """What the store answers, once it takes connections: by plan it refuses them now and then."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)

"""kill -9 of a mount at random moments, over and over with one cache."""

import os
import random
import subprocess
import time

import pytest


def test_kill_9_at_random_moments_over_and_over_leaves_every_byte_right(lab, csv_inventory):
    seed = int(os.environ.get("SEED") or random.randrange(1 << 32))
    print(f"seed {seed}: SEED={seed} repeats the moments as nearly as clocks allow")
    moments = random.Random(seed)
    origin = lab.origin(csv_inventory.root)
    # Smaller than the inventory, so that the kills meet evictions too.
    options = ["--cache-size", "16MiB"]
    for number in range(20):
        mount = lab.mount(csv_inventory.url, *options, endpoint=origin.endpoint, at=f"mnt-{number}")
        assert mount.allocated_bytes() <= 16 << 20
        # What the last kill has left is read first: it would be evicted soon.
        paths = sorted(mount.data.iterdir())
        for path in paths:
            truth = csv_inventory.chunks[path.name]
            assert lab.run("cmp", path, truth).returncode == 0, f"{path.name} differs (seed {seed})"
        moments.shuffle(paths)
        reader = lab.spawn("cat", *paths, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(moments.uniform(0, 0.15))
        mount.kill()
        reader.wait()

"""The daemon's memory follows from its configuration."""

import subprocess

import pytest

MIB = 1 << 20

# The documented formula (docs/ARCHITECTURE.md, MemoryPlan.swift): connections x (receive buffer + connection) + a fixed
# base, which holds six buffers of the largest read.
DOCUMENTED_BYTES_PER_CONNECTION = (256 + 32) << 10
DOCUMENTED_BASE_BYTES = (35 + 6) * MIB


def documented_peak_bytes(connections):
    return connections * DOCUMENTED_BYTES_PER_CONNECTION + DOCUMENTED_BASE_BYTES


@pytest.mark.limit(240)
@pytest.mark.parametrize("connections", [4, 32])
def test_peak_memory_stays_within_the_documented_formula(
        lab, seaweedfs_with_big_inventory, big_inventory, connections):
    mount = lab.mount(big_inventory.url, "--max-connections", connections,
                      endpoint=seaweedfs_with_big_inventory.endpoint)
    paths = sorted(mount.data.iterdir())
    assert len(paths) >= 8
    for _ in ("cold", "warm"):
        readers = [lab.spawn("cat", path, stdout=subprocess.DEVNULL) for path in paths]
        assert [reader.wait() for reader in readers] == [0] * len(readers)
    peak = mount.memory_bytes("VmHWM")
    print(f"{connections} connections: VmHWM {peak / MIB:.1f} MiB, "
          f"documented {documented_peak_bytes(connections) / MIB:.1f} MiB")
    assert peak <= 1.1 * documented_peak_bytes(connections)
    assert peak >= 0.9 * documented_peak_bytes(connections), "the documentation promises too much"

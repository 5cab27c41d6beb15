"""What the store is asked for, counted by s3-origin: requests, ranges, bytes, connections."""

import subprocess
import sys

import pytest

from harness.inventory import entry, write_manifest
from harness.processes import wait_until

MIB = 1 << 20
READERS = 8


def read_by_many(lab, paths, readers=READERS):
    """Each of the readers reads all of them, at once."""
    running = [lab.spawn("cat", *paths, stdout=subprocess.DEVNULL) for _ in range(readers)]
    assert [reader.wait() for reader in running] == [0] * readers


def test_for_many_readers_of_one_chunk_no_byte_is_requested_twice(lab, big_inventory):
    origin = lab.origin(big_inventory.root)
    mount = lab.mount(big_inventory.url, endpoint=origin.endpoint)
    key = big_inventory.keys[0]
    path = mount.data / big_inventory.path(key).name
    read_by_many(lab, [path])
    requests = origin.settled_requests(key)
    assert origin.bytes_requested_twice(key) == 0
    assert sum(request.body_bytes for request in requests) == path.stat().st_size
    assert len(requests) > 1, "a large chunk comes in parallel parts"


def test_the_mount_counts_its_requests_and_bytes_as_the_store_does(lab, big_inventory):
    origin = lab.origin(big_inventory.root)
    mount = lab.mount(big_inventory.url, endpoint=origin.endpoint)
    read_by_many(lab, [mount.data / path.name for path in map(big_inventory.path, big_inventory.keys[:2])])
    origin.settled_requests(big_inventory.keys[0])
    totals = origin.stats()["totals"]
    assert int(mount.xattr("user.inventoryfs.requests")) == totals["requests"] > 2
    assert int(mount.xattr("user.inventoryfs.received_bytes")) == totals["bodyBytesSent"] > MIB
    for name in ("open_files", "waiting", "parts_in_flight", "requests_in_flight", "pinned_bytes"):
        wait_until(lambda: mount.xattr(f"user.inventoryfs.{name}") == "0", f"{name} to be 0")


def test_a_small_chunk_is_one_request(lab):
    made = write_manifest(lab.folder, [entry(lab.folder, "small/one.csv.gz", bytes(range(256)) * 200)])
    origin = lab.origin(lab.folder)
    mount = lab.mount(made.url, endpoint=origin.endpoint)
    read_by_many(lab, [mount.data / "one.csv.gz"])
    assert len(origin.settled_requests("small/one.csv.gz")) == 1


def test_head_c_100_costs_about_a_mebibyte(lab, big_inventory):
    origin = lab.origin(big_inventory.root)
    mount = lab.mount(big_inventory.url, endpoint=origin.endpoint)
    key = big_inventory.keys[0]
    result = subprocess.run(["head", "-c", "100", mount.data / big_inventory.path(key).name],
                            stdout=subprocess.PIPE, check=True)
    assert result.stdout == big_inventory.path(key).read_bytes()[:100]
    assert 0 < sum(request.body_bytes for request in origin.settled_requests(key)) <= 1_200_000


def test_the_footer_of_a_parquet_chunk_is_one_small_request(lab, parquet_inventory):
    origin = lab.origin(parquet_inventory.root)
    mount = lab.mount(parquet_inventory.url, endpoint=origin.endpoint)
    key = parquet_inventory.keys[0]
    script = "import sys, pyarrow.parquet as p; print(p.read_metadata(sys.argv[1]).num_rows)"
    got = lab.run(sys.executable, "-c", script, mount.data / parquet_inventory.path(key).name)
    assert got.stdout == lab.run(sys.executable, "-c", script, parquet_inventory.path(key)).stdout != ""
    requests = origin.settled_requests(key)
    assert len(requests) == 1
    assert requests[0].body_bytes <= 256 << 10


def test_a_seeking_reader_does_not_drag_in_what_it_will_not_read(lab, big_inventory):
    """3 reads of 64 KiB, far apart: little more than they is fetched. When reads keep coming all over the chunk it is
    fetched whole, once, because the rest comes in less time than they would wait."""
    origin = lab.origin(big_inventory.root)
    mount = lab.mount(big_inventory.url, endpoint=origin.endpoint)
    key = big_inventory.keys[0]
    truth = big_inventory.path(key).read_bytes()
    with open(mount.data / big_inventory.path(key).name, "rb", buffering=0) as file:
        # Not in one direction with one stride, which a read-ahead might rightly learn.
        def read(step):
            file.seek(step * len(truth) // 20)
            assert file.read(65_536) == truth[step * len(truth) // 20:][:65_536]

        for step in (7, 2, 16):
            read(step)
        # The first MiB came with the opening.
        assert sum(request.body_bytes for request in origin.settled_requests(key)) <= MIB + 3 * 3 * 65_536
        for step in sorted(range(20), key=lambda step: step * 7 % 20):
            read(step)
    assert sum(request.body_bytes for request in origin.settled_requests(key)) <= len(truth)


def test_every_request_after_the_first_to_a_chunk_carries_if_match(lab, big_inventory):
    origin = lab.origin(big_inventory.root)
    mount = lab.mount(big_inventory.url, endpoint=origin.endpoint)
    read_by_many(lab, sorted(mount.data.iterdir()), readers=2)
    requests = origin.settled_requests()
    for key in big_inventory.keys:
        first, *others = [request for request in requests if request.key == key]
        assert others
        tags = {request.if_match for request in others}
        assert len(tags) == 1 and None not in tags, f"{key}: {tags}"
        assert tags.pop().strip('"') == mount.xattr("user.s3.etag", big_inventory.path(key).name).strip('"')


@pytest.mark.parametrize("threads", [1, 3])
def test_the_connections_stay_under_their_cap(lab, big_inventory, threads):
    """More readers and chunks than connections, and a slow store, so that all that may be open is open."""
    cap = 4
    origin = lab.origin(big_inventory.root, "--first-byte-delay-ms", 30)
    mount = lab.mount(big_inventory.url, "--max-connections", cap, "--network-threads", threads,
                      endpoint=origin.endpoint)
    readers = [lab.spawn("cat", path, stdout=subprocess.DEVNULL) for path in sorted(mount.data.iterdir())]
    assert [reader.wait() for reader in readers] == [0] * len(readers)
    # Asking for this is a connection too.
    connections = origin.stats()["connections"]
    assert 2 <= connections["mostAtOnce"] <= cap + 1


def test_mounting_and_listing_1000_chunks_asks_for_the_manifest_and_a_byte_only(lab):
    first = entry(lab.folder, "inv/src-bucket/hand-made/data/first.csv.gz", b"x")
    made = write_manifest(lab.folder, [first] + [
        {"key": f"inv/src-bucket/hand-made/data/{number:08}.csv.gz", "size": number, "MD5checksum": "0" * 32}
        for number in range(999)])
    origin = lab.origin(lab.folder)
    mount = lab.mount(made.url, endpoint=origin.endpoint)
    listing = lab.run("ls", "-l", mount.path, mount.data)
    assert listing.returncode == 0 and listing.stdout.count(".csv.gz") == 1000
    requests = origin.settled_requests()
    assert {request.key for request in requests} == {
        made.manifest_key, made.manifest_key.replace("manifest.json", "manifest.checksum")}
    assert len(requests) == 2

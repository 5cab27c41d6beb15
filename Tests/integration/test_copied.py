"""Inventories that lie elsewhere than where S3 put them: the manifest still names the place of the original."""

import errno
import json
import os
import shutil
import sys

import pytest

from harness.inventory import BUCKET, Inventory, entry, write_manifest, write_manifest_bytes

COPY = "copy-bucket"
R = "inv/src-bucket/daily"
DATE = "2026-11-22T01-00Z"


@pytest.fixture
def root(lab):
    return lab.folder / "buckets"


def original(root, count=3, **fields):
    """An inventory whose manifest and chunks are where S3 writes them."""
    files = [entry(root, f"{R}/data/{number}.csv.gz", b"%d" % number * 5000) for number in range(count)]
    return write_manifest(root, files, name="daily", **fields)


def copy(root, target):
    """Moves the inventory's folder to `target`, below the folder of buckets; the original is gone."""
    (root / target).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(root / BUCKET / R, root / target)
    return f"s3://{target}/{DATE}/manifest.json"


def refusal(lab, source, *options, **environment):
    result = lab.inventoryfs("mount", source, lab.mountpoint(), "--cache-dir", lab.folder / "cache", *options,
                             **environment)
    assert result.returncode == 1, result.stderr
    assert not os.path.ismount(lab.mountpoint())
    return result.stderr


def check(mount, count=3):
    assert {path.name: path.read_bytes() for path in mount.data.iterdir()} == {
        f"{number}.csv.gz": b"%d" % number * 5000 for number in range(count)}


# In a store

def test_a_copy_under_the_same_keys_is_read_from_the_bucket_of_its_manifest(lab, root):
    original(root)
    source = copy(root, f"{COPY}/{R}")
    shutil.rmtree(root / BUCKET)
    mount = lab.mount(source, endpoint=lab.origin(root).endpoint)
    check(mount)
    warning = mount.logged("--bucket")[0]
    for part in (f"s3://{BUCKET}/{R}/data/0.csv.gz", "NoSuchBucket", f"set --bucket {COPY} to"):
        assert part in warning
    assert mount.xattr("user.s3.bucket", "0.csv.gz") == COPY


def test_a_copy_whose_original_is_denied_is_read_from_the_bucket_of_its_manifest(lab, root):
    original(root)
    (root / COPY).mkdir()
    shutil.copytree(root / BUCKET / "inv", root / COPY / "inv")
    denied = {"match": {"bucket": BUCKET}, "fault": {"kind": "status", "status": 403, "code": "AccessDenied"}}
    mount = lab.mount(f"s3://{COPY}/{R}/{DATE}/manifest.json",
                      endpoint=lab.origin(root, fault_plan={"rules": [denied]}).endpoint)
    check(mount)
    assert "AccessDenied" in mount.logged("--bucket")[0]


@pytest.mark.parametrize("target", [f"{COPY}/elsewhere", f"{COPY}", f"{BUCKET}/deeper/down/{R}", f"{COPY}/x/daily"])
def test_a_copy_under_another_prefix_is_found_near_its_manifest(lab, root, target):
    original(root)
    (root / BUCKET).mkdir(exist_ok=True)
    source = copy(root, target)
    mount = lab.mount(source, endpoint=lab.origin(root).endpoint)
    check(mount)
    assert "--key-prefix" in mount.logged("The chunks are read from")[0]


def test_the_flags_that_the_warning_names_silence_it(lab, root):
    original(root)
    source = copy(root, f"{COPY}/elsewhere")
    mount = lab.mount(source, "--bucket", COPY, "--key-prefix", f"{R}/=elsewhere/", endpoint=lab.origin(root).endpoint)
    check(mount)
    assert "warning" not in mount.log()
    assert mount.xattr("user.s3.key", "0.csv.gz") == "elsewhere/data/0.csv.gz"


def test_chunks_that_are_nowhere_refuse_the_mount_and_name_the_first(lab, root):
    original(root)
    source = copy(root, f"{COPY}/{R}")
    shutil.rmtree(root / COPY / R / "data")
    error = refusal(lab, source, "--endpoint-url", lab.origin(root).endpoint)
    for part in (f"s3://{BUCKET}/{R}/data/0.csv.gz", "NoSuch", "--bucket", "--key-prefix"):
        assert part in error


def test_one_missing_chunk_is_a_warning_even_if_it_is_the_first(lab, root):
    made = original(root)
    made.path(f"{R}/data/0.csv.gz").unlink()
    mount = lab.mount(made.url, endpoint=lab.origin(root).endpoint)
    assert (mount.data / "1.csv.gz").read_bytes() == b"1" * 5000
    with pytest.raises(OSError) as raised:
        (mount.data / "0.csv.gz").read_bytes()
    assert raised.value.errno == errno.ENOENT
    assert "0.csv.gz" in mount.logged("Other chunks can be read")[0]


def test_a_store_that_fails_for_the_first_chunk_only_warns(lab, root):
    made = original(root)
    fault = {"match": {"keySuffix": "0.csv.gz"}, "times": 2, "fault": {"kind": "status", "status": 500,
                                                                          "code": "InternalError"}}
    mount = lab.mount(made.url, "--read-timeout", "1s", endpoint=lab.origin(root, fault_plan={"rules": [fault]}).endpoint)
    check(mount)


def test_a_mount_asks_for_one_byte_of_the_first_chunk(lab, root):
    made = original(root)
    origin = lab.origin(root)
    lab.mount(made.url, endpoint=origin.endpoint)
    asked = [(request.method, request.range) for request in origin.all_requests() if "/data/" in request.key]
    assert asked == [("GET", (0, 1))]


def test_a_key_prefix_without_an_equals_sign_is_refused(lab, root):
    made = original(root)
    result = lab.inventoryfs("mount", made.url, lab.mountpoint(), "--key-prefix", "inv/")
    assert result.returncode != 0 and "OLD=NEW" in result.stderr


# On the disk

def local_copy(lab, root, shape, **fields):
    """What people download, and the path of its manifest."""
    made = original(root, **fields)
    folder = lab.folder / "inv"
    if shape == "the inventory's folder":
        shutil.copytree(root / BUCKET / R, folder)
        manifest = folder / DATE / "manifest.json"
    elif shape == "flat":
        folder.mkdir()
        shutil.copy(made.manifest_path, folder)
        for path in made.chunks.values():
            shutil.copy(path, folder)
        manifest = folder / "manifest.json"
    elif shape == "a part of the prefix":
        shutil.copytree(root / BUCKET / "inv" / "src-bucket", folder)
        manifest = folder / "daily" / DATE / "manifest.json"
    elif shape == "data below the date":
        shutil.copytree(root / BUCKET / R / "data", folder / "data")
        shutil.copy(made.manifest_path, folder)
        manifest = folder / "manifest.json"
    shutil.rmtree(root)
    return manifest


@pytest.mark.parametrize("shape", ["the inventory's folder", "flat", "a part of the prefix", "data below the date"])
def test_downloaded_chunks_are_found_by_the_end_of_their_keys(lab, root, shape):
    mount = lab.mount(local_copy(lab, root, shape))
    check(mount)
    assert mount.xattr("user.s3.key", "0.csv.gz") == f"{R}/data/0.csv.gz"


@pytest.mark.parametrize("number", [0, 1, 2])
def test_any_chunk_may_be_missing_and_one_warning_counts_them(lab, root, number):
    manifest = local_copy(lab, root, "the inventory's folder")
    (lab.folder / "inv" / "data" / f"{number}.csv.gz").unlink()
    mount = lab.mount(manifest)
    assert len(os.listdir(mount.data)) == 3
    with pytest.raises(OSError) as raised:
        (mount.data / f"{number}.csv.gz").read_bytes()
    assert raised.value.errno == errno.ENOENT
    other = (number + 1) % 3
    assert (mount.data / f"{other}.csv.gz").read_bytes() == b"%d" % other * 5000
    assert len(mount.logged("1 of 3 chunks have no file")) == 1


def test_without_any_chunk_the_mount_is_refused_with_the_first_path_tried(lab, root):
    manifest = local_copy(lab, root, "the inventory's folder")
    shutil.rmtree(lab.folder / "inv" / "data")
    assert f"{lab.folder}/inv/{DATE}/{R}/data/0.csv.gz was tried first" in refusal(lab, manifest)


def test_an_absolute_link_to_the_chunks_is_named(lab, root):
    manifest = local_copy(lab, root, "the inventory's folder")
    data = lab.folder / "inv" / "data"
    shutil.move(data, lab.folder / "elsewhere")
    data.symlink_to(lab.folder / "elsewhere")
    error = refusal(lab, manifest)
    assert "symbolic link" in error and "bind mount" in error


# Manifests that lack what AWS writes

def test_the_time_of_a_manifest_without_one_is_that_of_its_object(lab, root):
    made = original(root, creationTimestamp="garbage")
    manifest = root / BUCKET / "plain" / "manifest.json"
    manifest.parent.mkdir()
    shutil.copy(made.manifest_path, manifest)
    os.utime(manifest, (1_600_000_000, 1_600_000_000))
    endpoint = lab.origin(root).endpoint
    for source in (f"s3://{BUCKET}/plain/manifest.json", manifest):
        at = "local" if source == manifest else "store"
        mount = lab.mount(source, endpoint=None if source == manifest else endpoint, at=at, cache=f"cache-{at}")
        assert (mount.data / "0.csv.gz").stat().st_mtime == 1_600_000_000
        assert mount.logged("creationTimestamp")


def test_sizes_that_the_store_refuses_are_a_few_lines_of_log(lab, root):
    there = entry(root, f"{R}/data/there.csv.gz", b"x" * 10)
    made = write_manifest(root, [there, *({"key": f"{R}/data/gone-{number}.csv.gz"} for number in range(300))])
    mount = lab.mount(made.url, endpoint=lab.origin(root).endpoint)
    assert len(os.listdir(mount.data)) == 301
    assert "and 295 more" in mount.logged("more chunks whose size")[0]
    assert mount.log().count("/gone-") <= 10, "each of five lines has the location twice"


def test_a_store_that_hangs_on_the_sizes_delays_the_mount_once(lab, root):
    """And not once for each connection's share of the chunks."""
    there = entry(root, f"{R}/data/there.csv.gz", b"x" * 10)
    made = write_manifest(root, [there, *({"key": f"{R}/data/hangs-{number}.csv.gz"} for number in range(300))])
    hang = {"match": {"method": "HEAD"}, "fault": {"kind": "hangBeforeHead"}}
    origin = lab.origin(root, fault_plan={"rules": [hang]})
    mount = lab.mount(made.url, "--read-timeout", "2s", "--max-connections", "2", endpoint=origin.endpoint)
    assert (mount.data / "there.csv.gz").read_bytes() == b"x" * 10
    assert mount.logged("were not asked about")
    # Each chunk that was asked about had its own share of retries, and only those of one timeout were.
    assert len({request.key for request in origin.all_requests() if "hangs-" in request.key}) <= 6


def peak_of_refusal(lab, root, count):
    """The highest resident set, in MB, of a mount that is refused because its manifest has so many entries."""
    content = {"destinationBucket": BUCKET, "fileFormat": "CSV", "files": []}
    text = json.dumps(content).replace("[]", "[" + ",".join(['{"key":"a"}'] * count) + "]")
    made = write_manifest_bytes(root, f"{R}/{DATE}/manifest.json", text.encode())
    program = ("import resource, subprocess, sys; code = subprocess.run(sys.argv[1:]).returncode; "
               "print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1000)")
    result = lab.run(sys.executable, "-c", program, lab.binary, "mount", "-f", made.manifest_path, lab.mountpoint())
    code, peak = map(int, result.stdout.split())
    assert code == 1 and "more than 1000000 entries" in result.stderr
    return peak


def test_a_manifest_of_too_many_chunks_is_refused_in_bounded_memory(lab, root):
    # The text of the larger one takes 72 MB more; a tree of it would take some 500.
    least, most = peak_of_refusal(lab, root, 1_000_001), peak_of_refusal(lab, root, 7_000_000)
    print(f"{least} MB for a million and one, {most} MB for seven million")
    assert most - least < 200


def test_a_million_chunks_are_mounted(lab, root):
    entry(root, "a", b"")
    entries = ['{"key":"a","size":0}'] + [f'{{"key":"d/{number}","size":0}}' for number in range(999_999)]
    text = '{"fileFormat":"CSV","files":[' + ",".join(entries) + "]}"
    made = write_manifest_bytes(root, f"{R}/{DATE}/manifest.json", text.encode())
    mount = lab.mount(made.manifest_path)
    assert (mount.data / "a").stat().st_size == 0 and len(os.listdir(mount.data)) == 1_000_000
    warning = mount.logged("--memory-limit")[0]
    assert "1000000 chunks take" in warning and str(made.manifest_path) in warning


# While the store is away

def cached_and_away(lab, root, **fields):
    """A mount has read all chunks; then its store has ended. The address stays that of the store."""
    made = original(root, **fields)
    origin = lab.origin(root)
    mount = lab.mount(made.url, "--verify=off", endpoint=origin.endpoint)
    check(mount)
    mount.unmount()
    origin.close()
    return made, origin.endpoint


def test_cached_chunks_are_mounted_and_read_while_the_store_is_away(lab, root):
    made, endpoint = cached_and_away(lab, root)
    mount = lab.mount(made.url, "--verify=off", endpoint=endpoint)
    check(mount)
    assert (mount.path / "manifest.json").read_bytes() == made.manifest_path.read_bytes()
    assert (mount.path / "manifest.checksum").exists()
    warning = mount.logged("mounted from the manifest in the cache")[0]
    assert "ago, ETag" in warning and "cannot be reached" in warning


def test_a_store_that_refuses_the_manifest_is_not_away(lab, root):
    made, _ = cached_and_away(lab, root)
    for status, code in ((403, "AccessDenied"), (404, "NoSuchKey")):
        fault = {"match": {"keySuffix": "manifest.json"}, "fault": {"kind": "status", "status": status, "code": code}}
        origin = lab.origin(root, fault_plan={"rules": [fault]})
        assert code in refusal(lab, made.url, "--endpoint-url", origin.endpoint)


@pytest.mark.parametrize("damage", ["cut", "altered", "none"])
def test_a_kept_manifest_that_is_damaged_or_of_another_place_is_not_used(lab, root, damage):
    made, endpoint = cached_and_away(lab, root)
    kept = lab.folder / "cache" / "inventoryfs-cache" / "manifest"
    data = kept.read_bytes()
    source = made.url
    if damage == "cut":
        kept.write_bytes(data[:-1])
    elif damage == "altered":
        kept.write_bytes(data.replace(b"0.csv.gz", b"9.csv.gz"))
    else:
        source = made.url.replace("01-00Z", "02-00Z")
    assert "cannot be reached" in refusal(lab, source, "--endpoint-url", endpoint)

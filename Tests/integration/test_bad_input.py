"""What inventoryfs does with input that is wrong: it says what, where and what to do, and leaves no mount behind."""

import errno
import hashlib
import json
import os
import subprocess

import pytest

from harness import processes
from harness.inventory import BUCKET, entry, write_manifest, write_manifest_bytes
from harness.lab import NOBODY, needs_root

KEY = "inv/src-bucket/hand-made/2026-11-22T01-00Z/manifest.json"
GIB = 1 << 30

# A mistyped endpoint is said to be one after 5 s. Who waited for --read-timeout instead would be ended before.
LATE = ["--read-timeout", "1h"]


def refused(lab, source, *mentioned, endpoint=None, mountpoint=None, options=(), **run_options):
    """`mount` must exit 1 with one message that has all of `mentioned` in it, and nothing may be left of it."""
    mountpoint = mountpoint or lab.mountpoint()
    before = processes.mounts_under(lab.folder)
    if endpoint:
        options = [*options, "--endpoint-url", endpoint]
    if "--cache-dir" not in options:
        options = [*options, "--cache-dir", lab.folder / "cache"]
    binary = lab.binary_for_everybody() if run_options.get("user") else lab.binary
    result = lab.run(binary, "mount", source, mountpoint, *options, **run_options)
    assert result.returncode == 1, (result.returncode, result.stdout, result.stderr)
    assert result.stdout == ""
    assert result.stderr.startswith("inventoryfs: "), result.stderr
    for word in mentioned:
        assert str(word).lower() in result.stderr.lower(), f"{word!r} is not in: {result.stderr}"
    assert processes.mounts_under(lab.folder) == before
    assert not processes.marked_processes(lab.mark) or lab.origins or lab.mounts
    return result.stderr


# The manifest's content

BATCH_OPERATIONS_REPORT = {
    "Format": "Report_CSV_20180820", "ReportCreationDate": "2019-04-05T17:48:39.725Z",
    "Results": [{"TaskExecutionStatus": "succeeded", "Bucket": "b", "MD5Checksum": "0" * 32, "Key": "k"}],
    "ReportSchema": "Bucket, Key, VersionId, TaskStatus"}
ICEBERG = {"format-version": 2, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1", "location": "s3://b/t",
           "last-sequence-number": 34, "schemas": []}
GOOD = {"sourceBucket": "src", "destinationBucket": f"arn:aws:s3:::{BUCKET}", "version": "2016-11-30",
        "creationTimestamp": "1514944800000", "fileFormat": "CSV", "fileSchema": "Bucket, Key"}
NOT_A_MANIFEST = {
    "prose": (b"hello, this is not JSON", ["JSON"]),
    "nothing": (b"", ["empty"]),
    "cut short": (json.dumps({**GOOD, "files": []}).encode()[:-9], ["JSON"]),
    "compressed": (bytes.fromhex("1f8b0800000000000003") + bytes(40), ["JSON"]),
    "a list": (b"[1, 2, 3]", ["manifest"]),
    "a CSV manifest of Batch Operations": (b"bucket,key1\nbucket,key2\n", ["JSON"]),
    "a Batch Operations report": (json.dumps(BATCH_OPERATIONS_REPORT).encode(), ["Batch Operations"]),
    "Iceberg metadata": (json.dumps(ICEBERG).encode(), ["Iceberg"]),
    "without files": (json.dumps(GOOD).encode(), ["files"]),
    "files is no list": (json.dumps({**GOOD, "files": {"key": "x"}}).encode(), ["files"]),
    "an entry without key": (json.dumps({**GOOD, "files": [{"size": 3}]}).encode(), ["key"]),
    "a negative size": (json.dumps({**GOOD, "files": [{"key": "k", "size": -3}]}).encode(), ["size", "-3"]),
    "a size beyond 64 bits":
        (json.dumps({**GOOD, "files": [{"key": "k", "size": 10 ** 30}]}).encode(), ["size"]),
    "a mebibyte of [": (b"[" * (1 << 20), ["JSON"]),
}


@pytest.mark.parametrize("name", NOT_A_MANIFEST)
@pytest.mark.parametrize("where", ["local", "store"])
def test_what_is_not_a_manifest_is_refused(lab, name, where):
    data, mentioned = NOT_A_MANIFEST[name]
    made = write_manifest_bytes(lab.folder, KEY, data)
    if where == "local":
        refused(lab, made.manifest_path, made.manifest_path, *mentioned)
    else:
        refused(lab, made.url, KEY, *mentioned, endpoint=lab.origin(lab.folder).endpoint)


@pytest.mark.parametrize("where", ["local", "store"])
def test_a_gibibyte_of_brackets_is_refused_without_being_taken_in(lab, where):
    made = write_manifest_bytes(lab.folder, KEY, b"", checksum=False)
    with open(made.manifest_path, "wb") as file:
        for _ in range(64):
            file.write(b"[" * (GIB // 64))
    source, endpoint = (made.manifest_path, None) if where == "local" else \
        (made.url, lab.origin(lab.folder).endpoint)
    # Half of it as the address space: whoever takes it all in fails otherwise than by exit 1 and a message.
    refused_in_little_memory(lab, source, endpoint)


def refused_in_little_memory(lab, source, endpoint):
    command = [lab.binary, "mount", source, lab.mountpoint(), "--cache-dir", lab.folder / "cache"]
    if endpoint:
        command += ["--endpoint-url", endpoint]
    result = lab.run("sh", "-c", f"ulimit -d {GIB // 2 // 1024}; exec \"$@\"", "sh", *command)
    assert result.returncode == 1, result.stderr
    assert result.stderr.startswith("inventoryfs: ") and "manifest.json" in result.stderr
    assert not processes.is_mounted(lab.folder / "mnt")


def test_a_wrong_checksum_refuses_the_mount_and_names_both(lab):
    made = write_manifest(lab.folder, [])
    wrong = "0123456789abcdef0123456789abcdef"
    made.manifest_path.with_name("manifest.checksum").write_text(wrong + "\n")
    found = hashlib.md5(made.manifest_path.read_bytes()).hexdigest()
    refused(lab, made.manifest_path, "manifest.checksum", wrong, found)
    refused(lab, made.url, "manifest.checksum", wrong, found, endpoint=lab.origin(lab.folder).endpoint)


def test_a_missing_checksum_is_only_a_warning(lab):
    made = write_manifest(lab.folder, [], checksum=False)
    mount = lab.mount(made.url, endpoint=lab.origin(lab.folder).endpoint)
    assert "manifest.checksum" in mount.log()


# The store's answers

def test_a_manifest_that_is_not_there_is_refused(lab, seaweedfs):
    refused(lab, f"s3://{BUCKET}/no/such/manifest.json", "NoSuchKey", BUCKET, "no/such/manifest.json",
            endpoint=seaweedfs.endpoint)


def test_a_local_manifest_that_is_not_there_is_refused(lab):
    refused(lab, lab.folder / "no-such" / "manifest.json", lab.folder / "no-such" / "manifest.json")


def test_control_characters_reach_neither_terminal_nor_log(lab):
    folder = lab.folder / "odd\x1b[2J\nname"
    said = refused(lab, folder / "manifest.json", r"odd\u{1b}[2J\u{a}name")
    assert "\x1b" not in said and said.count("\n") == 1
    folder.mkdir()
    made = write_manifest(folder, [], checksum=False)
    log = lab.mount(made.manifest_path).log()
    assert "\x1b" not in log and r"odd\u{1b}[2J\u{a}name" in log


def test_a_bucket_that_is_not_there_is_refused(lab, seaweedfs):
    # SeaweedFS says NoSuchKey for it, or NoSuchBucket, by version.
    refused(lab, "s3://no-such-bucket/manifest.json", "NoSuch", "no-such-bucket", endpoint=seaweedfs.endpoint)


def test_an_unknown_access_key_is_refused(lab, seaweedfs, csv_inventory):
    refused(lab, csv_inventory.url, "InvalidAccessKeyId", csv_inventory.manifest_key,
            endpoint=seaweedfs.endpoint, AWS_ACCESS_KEY_ID="AKIDNOBODY")


def test_a_wrong_secret_is_refused_and_not_shown(lab, seaweedfs, csv_inventory):
    message = refused(lab, csv_inventory.url, "SignatureDoesNotMatch", csv_inventory.manifest_key,
                      endpoint=seaweedfs.endpoint, AWS_SECRET_ACCESS_KEY="wrongwrongwrong")
    assert "wrongwrongwrong" not in message


def test_without_credentials_the_message_says_where_to_put_them(lab, seaweedfs, csv_inventory):
    refused(lab, csv_inventory.url, "AWS_ACCESS_KEY_ID", "--no-sign-request", endpoint=seaweedfs.endpoint,
            AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None)


def test_anonymous_access_that_is_denied_is_refused(lab, seaweedfs, csv_inventory):
    refused(lab, csv_inventory.url, "AccessDenied", csv_inventory.manifest_key, endpoint=seaweedfs.endpoint,
            options=["--no-sign-request"])


def test_a_refused_connection_is_refused(lab):
    port = processes.free_port()
    refused(lab, f"s3://{BUCKET}/manifest.json", "127.0.0.1", port, "connect",
            endpoint=f"http://127.0.0.1:{port}", options=LATE)


def test_a_host_name_that_does_not_resolve_is_refused(lab):
    refused(lab, f"s3://{BUCKET}/manifest.json", "no-such-host.invalid", "resolve",
            endpoint="http://no-such-host.invalid", options=LATE)


FAULTS = {
    "another region": ({"kind": "wrongRegion", "region": "eu-central-1"},
                       ["AuthorizationHeaderMalformed", "eu-central-1", "--region"]),
    "a redirect to another region": ({"kind": "redirect", "region": "eu-central-1"},
                                     ["PermanentRedirect", "eu-central-1", "--region"]),
    "an expired token": ({"kind": "status", "status": 400, "code": "ExpiredToken"}, ["ExpiredToken"]),
    "a denial": ({"kind": "status", "status": 403, "code": "AccessDenied"}, ["AccessDenied"]),
    "a wrong clock": ({"kind": "clockSkew"}, ["RequestTimeTooSkewed", "clock"]),
}


@pytest.mark.parametrize("name", FAULTS)
def test_an_error_of_the_store_is_passed_on_with_its_code(lab, csv_inventory, name):
    fault, mentioned = FAULTS[name]
    origin = lab.origin(csv_inventory.root, fault_plan={"rules": [{"fault": fault}]})
    refused(lab, csv_inventory.url, BUCKET, csv_inventory.manifest_key, *mentioned, endpoint=origin.endpoint)


@pytest.mark.parametrize("source", [
    "s3://", "s3://bucket", "s3:///key", "https://bucket/manifest.json", "s3://bucket/prefix/", "file://"])
def test_a_source_that_names_no_manifest_is_refused(lab, source):
    refused(lab, source, source)


# Entries

def test_an_empty_inventory_mounts_with_an_empty_data_folder(lab):
    made = write_manifest(lab.folder, [])
    mount = lab.mount(made.url, endpoint=lab.origin(lab.folder).endpoint)
    assert os.listdir(mount.data) == []
    assert (mount.path / "manifest.json").read_bytes() == made.manifest_path.read_bytes()


def test_a_size_that_the_manifest_lacks_is_asked_from_the_store(lab):
    whole = entry(lab.folder, "odd/whole.csv.gz", b"w" * 1000)
    bare = {"key": entry(lab.folder, "odd/bare.csv.gz", b"b" * 5000)["key"]}
    multipart = {**entry(lab.folder, "odd/multipart.csv.gz", b"m" * 10), "MD5checksum": "0" * 32 + "-3"}
    empty = {**entry(lab.folder, "odd/empty-md5.csv.gz", b"e" * 10), "MD5checksum": ""}
    made = write_manifest(lab.folder, [whole, bare, multipart, empty])
    mount = lab.mount(made.url, endpoint=lab.origin(lab.folder).endpoint)
    assert (mount.data / "bare.csv.gz").stat().st_size == 5000
    assert (mount.data / "bare.csv.gz").read_bytes() == b"b" * 5000
    assert mount.xattr("user.inventory.md5", "whole.csv.gz") == whole["MD5checksum"]
    for name in ("bare.csv.gz", "multipart.csv.gz", "empty-md5.csv.gz"):
        with pytest.raises(OSError) as error:
            mount.xattr("user.inventory.md5", name)
        assert error.value.errno == errno.ENODATA


@pytest.mark.parametrize("difference", [-7, 7])
def test_a_chunk_of_another_length_than_the_manifest_says_fails_with_eio(lab, difference):
    wrong = entry(lab.folder, "odd/wrong.csv.gz", b"x" * 5000)
    right = entry(lab.folder, "odd/right.csv.gz", b"y" * 5000)
    wrong["size"] += difference
    made = write_manifest(lab.folder, [wrong, right])
    mount = lab.mount(made.url, endpoint=lab.origin(lab.folder).endpoint)
    with pytest.raises(OSError) as error:
        open(mount.data / "wrong.csv.gz", "rb", buffering=0)
    assert error.value.errno == errno.EIO
    processes.wait_until(lambda: "5000" in mount.log() and str(5000 + difference) in mount.log(),
                         "the log to name both lengths")
    assert (mount.data / "right.csv.gz").read_bytes() == b"y" * 5000


def test_a_chunk_that_is_not_there_fails_and_the_others_read(lab):
    there = entry(lab.folder, "odd/there.csv.gz", b"x" * 100)
    made = write_manifest(lab.folder, [there, {"key": "odd/gone.csv.gz", "size": 10, "MD5checksum": "0" * 32}])
    mount = lab.mount(made.url, endpoint=lab.origin(lab.folder).endpoint)
    with pytest.raises(OSError) as error:
        (mount.data / "gone.csv.gz").read_bytes()
    assert error.value.errno in (errno.ENOENT, errno.ESTALE, errno.EIO)
    processes.wait_until(lambda: "odd/gone.csv.gz" in mount.log(), "the log to name the key")
    assert (mount.data / "there.csv.gz").read_bytes() == b"x" * 100


# The mountpoint

def test_a_missing_mountpoint_is_refused(lab, csv_inventory):
    path = lab.folder / "missing"
    refused(lab, csv_inventory.manifest_path, path, mountpoint=path)
    assert not path.exists()


def test_a_file_as_mountpoint_is_refused(lab, csv_inventory):
    path = lab.folder / "a-file"
    path.write_text("here")
    refused(lab, csv_inventory.manifest_path, path, "director", mountpoint=path)
    assert path.read_text() == "here"


def test_a_mountpoint_already_mounted_is_refused_and_stays(lab, csv_inventory):
    mount = lab.mount(csv_inventory.manifest_path)
    refused(lab, csv_inventory.manifest_path, mount.path, "mounted", mountpoint=mount.path,
            options=["--cache-dir", lab.folder / "second-cache"])
    assert len(os.listdir(mount.data)) == len(csv_inventory.chunks)


# The cache folder

def test_a_cache_folder_below_a_file_is_refused(lab, seaweedfs, csv_inventory):
    (lab.folder / "a-file").write_text("")
    path = lab.folder / "a-file" / "cache"
    refused(lab, csv_inventory.url, path, endpoint=seaweedfs.endpoint, options=["--cache-dir", path])


@needs_root
def test_a_cache_folder_that_is_not_writable_is_refused(lab, seaweedfs, csv_inventory):
    path = lab.folder / "closed"
    path.mkdir(mode=0o755)
    os.chown(lab.mountpoint(), NOBODY, NOBODY)
    refused(lab, csv_inventory.url, path, endpoint=seaweedfs.endpoint, options=["--cache-dir", path], user=NOBODY)


@needs_root
def test_a_full_cache_disk_is_refused(lab, seaweedfs, csv_inventory):
    path = lab.folder / "full"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", path], check=True)
    try:
        with pytest.raises(OSError), open(path / "filler", "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        refused(lab, csv_inventory.url, path, endpoint=seaweedfs.endpoint, options=["--cache-dir", path])
    finally:
        subprocess.run(["umount", path], check=True)


@needs_root
def test_a_cache_folder_that_is_another_users_symlink_is_refused(lab, seaweedfs, csv_inventory):
    target, link = lab.folder / "target", lab.folder / "link"
    target.mkdir(mode=0o700)
    link.symlink_to(target)
    os.chown(link, NOBODY, NOBODY, follow_symlinks=False)
    refused(lab, csv_inventory.url, link, "symlink", endpoint=seaweedfs.endpoint, options=["--cache-dir", link])
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("options", [
    ["--cache-size", "many"], ["--cache-size", "-1"], ["--max-connections", "0"],
    ["--network-threads", "0"], ["--memory-limit", "1"], ["--file-mode", "999"], ["--no-such-flag"]])
def test_an_option_that_makes_no_sense_is_refused(lab, csv_inventory, options):
    """Usage errors are the argument parser's: exit 64 (EX_USAGE), or 1 where the value is only too small."""
    result = lab.inventoryfs("mount", csv_inventory.manifest_path, lab.mountpoint(), *options)
    assert result.returncode in (1, 64), result
    assert options[0] in result.stderr
    assert not processes.is_mounted(lab.folder / "mnt")


@pytest.mark.parametrize("bucket", [
    "arn:aws:s3:eu-west-1:123456789012:accesspoint/inventory", "two words", "arn:aws:sns:::topic"])
def test_a_destination_bucket_that_is_none_is_quoted(lab, bucket):
    root = lab.folder / "buckets"
    inventory = write_manifest(root, [entry(root, "data/a.csv.gz", b"x")], destinationBucket=bucket)
    origin = lab.origin(root)
    result = lab.inventoryfs("mount", inventory.url, lab.mountpoint(), "--endpoint-url", origin.endpoint,
                             "--cache-dir", lab.folder / "cache")
    assert result.returncode == 1
    assert f"destinationBucket is '{bucket}'" in result.stderr and "set --bucket" in result.stderr


@pytest.mark.parametrize("bucket", ["", "a b", "arn:aws:s3:eu-west-1:123456789012:accesspoint/a"])
def test_a_bucket_option_that_names_none_is_refused(lab, csv_inventory, bucket):
    result = lab.inventoryfs("mount", csv_inventory.url, lab.mountpoint(), "--bucket", bucket)
    assert result.returncode == 1
    assert f"--bucket is '{bucket}'" in result.stderr and "arn:aws:s3:::bucket" in result.stderr

"""The folder of the cache: what lies beside it, what somebody put into it, and what becomes of it in mid-mount."""

import contextlib
import os
import pathlib
import re
import shutil
import stat
import subprocess

import pytest

from harness.inventory import entry, write_manifest
from harness.lab import needs_root
from harness.processes import wait_until

pytestmark = needs_root

MIB = 1 << 20


# Files beside the cache

def put_odd_files(folder):
    """Files and folders of somebody else, with names that a careless program would take for its own."""
    for name in ("chunks-vendor", "chunks-v1", "chunks-v3-crc32c", "chunks-v2-crc32.bak", "data", "inventoryfs"):
        (folder / name).mkdir()
        for file in ("f", "0f" * 16 + ".data", "0f" * 16 + ".index", "probe"):
            (folder / name / file).write_text("mine")
    for name in ("lock", "CACHEDIR.TAG", "probe", "notes.txt", ".hidden", "x.data", "pid"):
        (folder / name).write_text("mine")
    (folder / "link").symlink_to("/etc/passwd")
    (folder / "dead").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    (folder / "unreadable").write_text("mine")
    (folder / "unreadable").chmod(0)


def everything(folder, but):
    """Mode, times and content of all that lies in a folder, without what lies below `but`."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if but in path.parents or path == but:
            continue
        info = path.lstat()
        text = path.read_bytes() if stat.S_ISREG(info.st_mode) else None
        found[path] = (info.st_mode, info.st_mtime_ns, info.st_size if text is not None else None, text)
    return found


def test_files_beside_the_cache_stay_as_they_are(lab, seaweedfs, csv_inventory):
    folder = lab.folder / "cache"
    folder.mkdir()
    put_odd_files(folder)
    own = folder / "inventoryfs-cache"
    before = everything(folder, own)
    options = ["--cache-size", "16MiB", "--verify", "off"]

    mount = lab.mount(csv_inventory.url, *options, endpoint=seaweedfs.endpoint)
    for name, path in csv_inventory.chunks.items():
        assert (mount.data / name).read_bytes() == pathlib.Path(path).read_bytes()
    # 24 MiB through a cache of 16: something was evicted.
    assert sum(mount.cached_bytes(name) for name in csv_inventory.chunks) < 16 << 20
    mount.kill()
    assert everything(folder, own) == before

    # A version of the format that nobody reads any more, and a file of somebody else in it.
    old = own / "chunks-v1-crc32"
    old.mkdir()
    for name in ("0f" * 16 + ".data", "0f" * 16 + ".index", "notes.txt"):
        (old / name).write_text("x")
    mount = lab.mount(csv_inventory.url, *options, endpoint=seaweedfs.endpoint)
    wait_until(lambda: os.listdir(old) == ["notes.txt"], "the old format's files to go")
    mount.unmount()
    assert everything(folder, own) == before


def test_a_folder_of_the_caches_name_that_is_not_ours_is_refused(lab, seaweedfs, csv_inventory):
    own = lab.folder / "cache" / "inventoryfs-cache"
    own.mkdir(parents=True)
    (own / "lock").write_text("mine")
    result = lab.inventoryfs("mount", csv_inventory.url, lab.mountpoint(), "--cache-dir", lab.folder / "cache",
                             "--endpoint-url", seaweedfs.endpoint)
    assert result.returncode == 1
    assert f"{own}: has files, but no CACHEDIR.TAG of inventoryfs" in result.stderr and "--cache-dir" in result.stderr
    assert [(path.name, path.read_text()) for path in own.iterdir()] == [("lock", "mine")]


TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n# Chunks cached by inventoryfs; safe to delete while it is not mounted.\n"


def mount_with(lab, seaweedfs, inventory, cache):
    """Tries to mount, in the background, and unmounts again if that worked."""
    path = lab.mountpoint()
    result = lab.inventoryfs("mount", inventory.url, path, "--cache-dir", cache, "--endpoint-url", seaweedfs.endpoint,
                             timeout=30)
    if result.returncode == 0:
        assert lab.inventoryfs("unmount", path).returncode == 0
    return result


@pytest.mark.parametrize("length", [0, 20, len(TAG) - 1], ids=["empty", "prefix", "almost"])
@pytest.mark.parametrize("kind", ["hard_link", "symlink", "file_of_ours"])
def test_a_tag_of_somebody_else_is_not_written_into(lab, seaweedfs, csv_inventory, length, kind):
    own = lab.folder / "cache" / "inventoryfs-cache"
    own.mkdir(parents=True)
    theirs = lab.folder / "theirs"
    theirs.write_bytes(TAG[:length])
    if kind == "hard_link":
        os.link(theirs, own / "CACHEDIR.TAG")
    elif kind == "symlink":
        (own / "CACHEDIR.TAG").symlink_to(theirs)
    else:
        (own / "CACHEDIR.TAG").write_bytes(TAG[:length])
    before = theirs.stat()
    result = mount_with(lab, seaweedfs, csv_inventory, own.parent)
    if kind == "file_of_ours":
        assert result.returncode == 0, result.stderr
        assert (own / "CACHEDIR.TAG").read_bytes() == TAG
    else:
        assert result.returncode == 1 and "CACHEDIR.TAG" in result.stderr
        assert os.listdir(own) == ["CACHEDIR.TAG"]
    assert theirs.read_bytes() == TAG[:length]
    assert theirs.stat().st_mtime_ns == before.st_mtime_ns


CHUNKS = "chunks-v*"


@pytest.fixture
def own_folder(lab, seaweedfs, csv_inventory):
    """The folder of a cache that was in use once."""
    result = mount_with(lab, seaweedfs, csv_inventory, lab.folder / "cache")
    assert result.returncode == 0, result.stderr
    return lab.folder / "cache" / "inventoryfs-cache"


@pytest.mark.parametrize("kind", ["fifo", "hard_link", "symlink"])
@pytest.mark.parametrize("name", ["lock", "probe"])
def test_in_place_of_a_file_of_ours_nothing_else_is_opened_or_written(lab, seaweedfs, csv_inventory, own_folder, name,
                                                                      kind):
    path = own_folder / "lock" if name == "lock" else next(own_folder.glob(CHUNKS)) / "probe"
    path.unlink(missing_ok=True)
    theirs = lab.folder / "theirs"
    theirs.write_text("mine")
    if kind == "fifo":
        os.mkfifo(path)
        # An open for writing would end this process's wait; what is written would be read here.
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    elif kind == "hard_link":
        os.link(theirs, path)
    else:
        path.symlink_to(theirs)
    before = path.lstat()
    result = mount_with(lab, seaweedfs, csv_inventory, own_folder.parent)
    assert theirs.read_text() == "mine"
    if kind == "hard_link":
        # A backup's. Its name here goes, or it serves as the lock.
        assert result.returncode == 0, result.stderr
        return
    assert result.returncode == 1
    assert str(path) in result.stderr and "--cache-dir" in result.stderr
    after = path.lstat()
    assert (after.st_ino, after.st_mode, after.st_nlink) == (before.st_ino, before.st_mode, before.st_nlink)
    if kind == "fifo":
        assert os.read(reader, 10) == b""
        os.close(reader)


def test_a_probe_that_a_crash_left_is_in_nobodys_way(lab, seaweedfs, csv_inventory, own_folder):
    (next(own_folder.glob(CHUNKS)) / "probe").write_bytes(bytes(65536))
    result = mount_with(lab, seaweedfs, csv_inventory, own_folder.parent)
    assert result.returncode == 0, result.stderr


def test_a_copy_of_the_cache_by_hard_links_stays_as_it_is(lab, seaweedfs, csv_inventory):
    """As a backup program makes it: what is evicted from our file would be gone from the copy."""
    options = ["--cache-size", "16MiB", "--verify", "off"]
    first, *others = csv_inventory.chunks.items()
    mount = lab.mount(csv_inventory.url, *options, endpoint=seaweedfs.endpoint)
    assert (mount.data / first[0]).read_bytes() == pathlib.Path(first[1]).read_bytes()
    mount.unmount()
    copy = lab.folder / "copy"
    subprocess.run(["cp", "-al", mount.cache, copy], check=True)
    files = [path for path in copy.rglob("*") if path.suffix in (".data", ".index")]
    before = {path: path.read_bytes() for path in files}
    assert before
    mount = lab.mount(csv_inventory.url, *options, endpoint=seaweedfs.endpoint)
    for name, path in [*others, first]:
        assert (mount.data / name).read_bytes() == pathlib.Path(path).read_bytes()
    mount.unmount()
    assert {path: path.read_bytes() for path in files} == before


def test_a_disk_that_takes_only_a_part_is_called_full(lab, seaweedfs, csv_inventory):
    """The first write is cut short by the limit, and sets no error number."""
    path = lab.mountpoint()
    # To a pipe, because the limit is one for each file that is written.
    result = subprocess.run(
        ["prlimit", "--fsize=50", lab.binary, "mount", "--foreground", csv_inventory.url, path, "--cache-dir",
         lab.folder / "cache", "--endpoint-url", seaweedfs.endpoint],
        env=lab.environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=30)
    assert result.returncode == 1
    assert "its disk is full" in result.stderr
    assert os.listdir(lab.folder / "cache" / "inventoryfs-cache") == []


# What becomes of it in mid-mount

@contextlib.contextmanager
def disk_of_its_own(lab):
    """A tmpfs that can be mounted at a second place, unmounted there in mid-mount, and mounted there again."""
    store, place = lab.mountpoint("store"), lab.mountpoint("place")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", store], check=True)
    subprocess.run(["mount", "--bind", store, place], check=True)
    try:
        yield store, place
    finally:
        for mount in lab.mounts:
            mount.unmount()
        for path in (place, store):
            if os.path.ismount(path):
                subprocess.run(["umount", "-l", path], check=True)


def compare(mount, chunks):
    for name, path in chunks:
        with open(mount.data / name, "rb") as got, open(path, "rb") as wanted:
            os.posix_fadvise(got.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            assert got.read() == wanted.read(), name


def complaints(mount):
    return [line for line in mount.log().splitlines() if "without caching" in line]


@pytest.mark.parametrize("below", ["", "a/b"], ids=["its_root", "a_folder_of_it"])
def test_the_cache_does_not_move_to_the_disk_below(lab, csv_inventory, below):
    origin = lab.origin(csv_inventory.root)
    chunks = list(csv_inventory.chunks.items())
    with disk_of_its_own(lab) as (store, place):
        mount = lab.mount(csv_inventory.url, endpoint=origin.endpoint, cache=place / below)
        compare(mount, chunks[:1])
        subprocess.run(["umount", "-l", place], check=True)
        (place / "theirs").write_text("mine")
        before = everything(place, None)
        compare(mount, chunks[1:])
        assert everything(place, None) == before
        assert os.listdir(place) == ["theirs"]
        assert len(complaints(mount)) == 1
        assert str(place / below) in complaints(mount)[0]
        # It is there again.
        subprocess.run(["mount", "--bind", store, place], check=True)
        mount.logged("caching resumes")
        compare(mount, chunks[:1])
        assert len(origin.settled_requests(csv_inventory.key(chunks[0][0]))) > 0
        compare(mount, chunks[1:2])
        wait_until(lambda: mount.cached_bytes(chunks[1][0]) == os.path.getsize(chunks[1][1]), "the chunk to be cached")
        assert mount.allocated_bytes() >= os.path.getsize(chunks[1][1])
        assert "error" not in mount.log()


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_only_our_own_folder_is_made_again(lab, csv_inventory, levels):
    """Deleted with so many of the folders above it."""
    origin = lab.origin(csv_inventory.root)
    chunks = list(csv_inventory.chunks.items())
    mount = lab.mount(csv_inventory.url, endpoint=origin.endpoint, cache="upper/lower")
    compare(mount, chunks[:1])
    own = mount.cache / "inventoryfs-cache"
    gone = [own, mount.cache, mount.cache.parent][levels]
    shutil.rmtree(gone)
    compare(mount, chunks[1:])
    if levels == 0:
        mount.logged("it is created again")
        assert complaints(mount) == []
        assert sorted(path.name for path in own.iterdir())[:2] == ["CACHEDIR.TAG", sorted(os.listdir(own))[1]]
        assert mount.allocated_bytes() > MIB
    else:
        assert not gone.exists()
        assert len(complaints(mount)) == 1 and f"{mount.cache}: does not exist any more" in complaints(mount)[0]
        # Whoever makes the directory again has made another one.
        mount.cache.mkdir(parents=True)
        compare(mount, chunks[1:])
        assert os.listdir(mount.cache) == []


# What it holds

def test_df_shows_no_disk_that_is_full(lab, csv_inventory):
    mount = lab.mount(csv_inventory.manifest_path)

    def df(*arguments):
        return lab.run("df", *arguments).stdout

    assert str(mount.path) not in df()
    assert str(mount.path) not in df("--inodes")
    assert str(mount.path) in df("--all")
    for named in (["--output=pcent"], ["--output=ipcent"]):
        assert df(*named, mount.path).split()[-1] == "-"
    assert "100%" not in df(mount.path) + df("--inodes", mount.path)
    # Its files' sizes are those of the chunks all the same.
    for name, path in csv_inventory.chunks.items():
        assert (mount.data / name).stat().st_size == os.path.getsize(path)


def test_the_size_of_the_cache_is_the_one_that_was_set(lab, seaweedfs, csv_inventory):
    for given, size in (("20GiB", 20 << 30), ("100000001", 100_000_001), ("16MiB", 16 << 20)):
        mount = lab.mount(csv_inventory.url, "--cache-size", given, "--cache-min-free", "0", endpoint=seaweedfs.endpoint)
        assert int(mount.xattr("user.inventoryfs.cache_size")) == size
        mount.unmount()


def test_a_chunk_that_the_cache_cannot_hold_is_said_to_be_too_large(lab, seaweedfs_with_big_inventory, big_inventory):
    mount = lab.mount(big_inventory.url, "--cache-size", "16MiB", endpoint=seaweedfs_with_big_inventory.endpoint)
    assert len(re.findall("larger than the cache", mount.log())) == 1
    mount.logged("12 of 12 chunks are larger than the cache")
    for name, path in list(big_inventory.chunks.items())[:1]:
        assert mount.xattr("user.inventoryfs.verified", name) == "too_large"
        assert (mount.data / name).read_bytes() == pathlib.Path(path).read_bytes()
        assert mount.xattr("user.inventoryfs.verified", name) == "too_large"
    mount.unmount()
    mount = lab.mount(big_inventory.url, "--cache-size", "64MiB", endpoint=seaweedfs_with_big_inventory.endpoint)
    assert mount.xattr("user.inventoryfs.verified", next(iter(big_inventory.chunks))) == "pending"
    assert "larger than the cache" not in mount.log()


def test_many_small_chunks_take_little_more_than_their_bytes(lab):
    """Counted by the disk, and never more than the program counts."""
    keys = [f"data/{number:05}.csv.gz" for number in range(2000)]
    content = os.urandom(4096)
    root = lab.folder / "root"
    inventory = write_manifest(root, [entry(root, key, content) for key in keys])
    origin = lab.origin(root)
    mount = lab.mount(inventory.url, "--verify", "off", endpoint=origin.endpoint)
    for name in inventory.chunks:
        assert (mount.data / name).read_bytes() == content
    wait_until(lambda: int(mount.xattr("user.inventoryfs.open_files")) == 0, "the closes")
    counted, on_disk = int(mount.xattr("user.inventoryfs.cache_bytes")), mount.allocated_bytes()
    files = sum(path.lstat().st_blocks * 512 for path in (mount.cache / "inventoryfs-cache").rglob("*")
                if path.suffix in (".data", ".index"))
    print(f"{counted / len(keys):.0f} bytes counted and {on_disk / len(keys):.0f} on disk for a chunk of 4096, "
          f"{files / len(keys):.0f} of them in its files")
    assert files <= 2 * 4096 * len(keys)
    assert files <= counted <= 2.6 * 4096 * len(keys)

"""The tree: names, sizes, times, modes, owners, xattrs, and that nothing in it can be changed."""

import errno
import os
import stat

import pytest

from harness.inventory import BUCKET, CREATED_SECONDS, entry, write_manifest
from harness.lab import needs_root

XATTRS = {"user.s3.bucket", "user.s3.key", "user.s3.etag", "user.inventory.md5"}


@pytest.fixture
def mount(lab, seaweedfs, csv_inventory):
    return lab.mount(csv_inventory.url, endpoint=seaweedfs.endpoint)


def everything(mount):
    return [mount.path, mount.path / "manifest.json", mount.path / "manifest.checksum", mount.data,
            *sorted(mount.data.iterdir())]


def test_the_tree_is_the_manifest_its_checksum_and_the_chunks(mount, csv_inventory):
    assert sorted(os.listdir(mount.path)) == ["data", "manifest.checksum", "manifest.json"]
    assert sorted(os.listdir(mount.data)) == sorted(csv_inventory.chunks)
    for name in ("manifest.json", "manifest.checksum"):
        assert (mount.path / name).read_bytes() == csv_inventory.manifest_path.with_name(name).read_bytes()
        assert (mount.path / name).stat().st_size == csv_inventory.manifest_path.with_name(name).stat().st_size


def test_sizes_come_from_the_manifest_and_times_from_its_creation(mount, csv_inventory):
    for file in csv_inventory.manifest["files"]:
        status = (mount.data / os.path.basename(file["key"])).stat()
        assert status.st_size == file["size"]
    for path in everything(mount):
        assert path.stat().st_mtime == CREATED_SECONDS, path


def test_modes_are_read_only_and_the_owner_is_who_mounts(mount):
    for path in everything(mount):
        status = path.stat()
        is_folder = path in (mount.path, mount.data)
        assert stat.S_IMODE(status.st_mode) == (0o555 if is_folder else 0o444), path
        assert stat.S_ISDIR(status.st_mode) == is_folder
        assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid()), path


def test_folders_and_files_have_the_links_that_find_expects(mount, csv_inventory):
    assert mount.path.stat().st_nlink == 3
    assert mount.data.stat().st_nlink == 2
    assert {path.stat().st_nlink for path in mount.data.iterdir()} == {1}
    entries = list(os.scandir(mount.path))
    assert {(item.name, item.is_dir(follow_symlinks=False)) for item in entries} == {
        ("data", True), ("manifest.json", False), ("manifest.checksum", False)}
    assert {item.inode() for item in entries} == {os.stat(item.path).st_ino for item in entries}


@needs_root
def test_owner_and_modes_can_be_chosen(lab, csv_inventory):
    mount = lab.mount(csv_inventory.manifest_path, "--uid", 1234, "--gid", 2345, "--file-mode", "0440",
                      "--dir-mode", "0550")
    for path in everything(mount):
        status = path.stat()
        assert (status.st_uid, status.st_gid) == (1234, 2345)
        assert stat.S_IMODE(status.st_mode) == (0o550 if path in (mount.path, mount.data) else 0o440)


def test_statfs_has_no_blocks_that_could_be_full(mount):
    status = os.statvfs(mount.path)
    assert status.f_blocks == status.f_bfree == status.f_bavail == 0
    assert status.f_files == status.f_ffree == status.f_favail == 0
    assert status.f_flag & os.ST_RDONLY
    assert status.f_namemax == 255


CHANGES = {
    "open for writing": lambda chunk, folder: os.open(chunk, os.O_WRONLY),
    "open for reading and writing": lambda chunk, folder: os.open(chunk, os.O_RDWR),
    "open for appending": lambda chunk, folder: os.open(chunk, os.O_WRONLY | os.O_APPEND),
    "open truncating": lambda chunk, folder: os.open(chunk, os.O_WRONLY | os.O_TRUNC),
    "create": lambda chunk, folder: os.open(folder / "new", os.O_WRONLY | os.O_CREAT),
    "create beside data": lambda chunk, folder: os.open(folder.parent / "new", os.O_WRONLY | os.O_CREAT),
    "mknod": lambda chunk, folder: os.mkfifo(folder / "new"),
    "unlink": lambda chunk, folder: os.unlink(chunk),
    "rename": lambda chunk, folder: os.rename(chunk, folder / "new"),
    "rename the folder": lambda chunk, folder: os.rename(folder, folder.parent / "new"),
    "mkdir": lambda chunk, folder: os.mkdir(folder / "new"),
    "rmdir": lambda chunk, folder: os.rmdir(folder),
    "symlink": lambda chunk, folder: os.symlink("target", folder / "new"),
    "link": lambda chunk, folder: os.link(chunk, folder / "new"),
    "chmod": lambda chunk, folder: os.chmod(chunk, 0o644),
    "chmod of the root": lambda chunk, folder: os.chmod(folder.parent, 0o755),
    "chown": lambda chunk, folder: os.chown(chunk, 1, 1),
    "truncate": lambda chunk, folder: os.truncate(chunk, 0),
    "utime": lambda chunk, folder: os.utime(chunk, (1, 1)),
    "setxattr": lambda chunk, folder: os.setxattr(chunk, "user.s3.key", b"other"),
    "setxattr of a new one": lambda chunk, folder: os.setxattr(folder, "user.new", b"value"),
    "removexattr": lambda chunk, folder: os.removexattr(chunk, "user.s3.key"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_gets_erofs(lab, csv_inventory, change):
    mount = lab.mount(csv_inventory.manifest_path)
    with pytest.raises(OSError) as error:
        CHANGES[change](mount.data / next(iter(csv_inventory.chunks)), mount.data)
    assert error.value.errno == errno.EROFS, error.value
    assert sorted(os.listdir(mount.data)) == sorted(csv_inventory.chunks)


def test_access_for_writing_is_denied_as_on_any_read_only_file_system(mount, csv_inventory):
    chunk = mount.data / next(iter(csv_inventory.chunks))
    assert os.access(chunk, os.R_OK)
    assert not os.access(chunk, os.W_OK)


def test_xattrs_tell_where_a_chunk_comes_from(mount, csv_inventory):
    # All before the first is read: reading one may fetch the start of the next.
    assert [mount.cached_bytes(name) for name in csv_inventory.chunks] == [0] * len(csv_inventory.chunks)
    for file in csv_inventory.manifest["files"]:
        name = os.path.basename(file["key"])
        assert set(os.listxattr(mount.data / name)) == XATTRS
        assert mount.xattr("user.s3.bucket", name) == BUCKET
        assert mount.xattr("user.s3.key", name) == file["key"]
        assert mount.xattr("user.inventory.md5", name) == file["MD5checksum"]
        (mount.data / name).read_bytes()
        assert mount.cached_bytes(name) == file["size"]
        assert mount.xattr("user.s3.etag", name)


def test_an_xattr_that_is_not_there_is_enodata(mount, csv_inventory):
    for path in (mount.path, mount.data, mount.data / next(iter(csv_inventory.chunks))):
        with pytest.raises(OSError) as error:
            os.getxattr(path, "user.no.such")
        assert error.value.errno == errno.ENODATA


def test_the_root_says_which_process_answers(mount):
    assert int(mount.xattr("user.inventoryfs.pid")) == mount.pid


def test_a_name_that_is_not_there_is_enoent(mount):
    for path in (mount.path / "absent", mount.data / "absent", mount.data / ("n" * 255)):
        assert not path.exists()
    with pytest.raises(OSError) as error:
        os.stat(mount.data / ("n" * 256))
    assert error.value.errno == errno.ENAMETOOLONG
    with pytest.raises(NotADirectoryError):
        os.stat(mount.path / "manifest.json" / "below")


def test_inodes_stay_the_same_across_mounts(lab, seaweedfs, csv_inventory):
    def inodes(mount):
        found = {str(path.relative_to(mount.path)): path.stat().st_ino for path in everything(mount)}
        assert len(set(found.values())) == len(found), "two files with one inode"
        return found

    first = lab.mount(csv_inventory.url, endpoint=seaweedfs.endpoint)
    before = inodes(first)
    first.unmount()
    second = lab.mount(csv_inventory.url, endpoint=seaweedfs.endpoint, cache="another-cache")
    assert inodes(second) == before


# Keys that make bad names

ODD_KEYS = [
    "inv/data/plain.csv.gz",
    "inv/one/same.csv.gz",
    "inv/two/same.csv.gz",
    "inv/three/same.csv.gz",
    "../../outside.csv.gz",
    "inv/data/..",
    "inv/data/.",
    "inv/data/",
    "/leading/slash.csv.gz",
    "inv//double//slash.csv.gz",
    "inv/data/nul\0in the name.csv.gz",
    "inv/data/new\nline\ttab\x1b[31mred.csv.gz",
    "inv/data/delete\x7f.csv.gz",
    "inv/data/" + "x" * 300 + ".csv.gz",
    "inv/data/" + "ü" * 200 + ".csv.gz",
    "inv/data/" + "x" * 300 + "y.csv.gz",
    "inv/data/spaces and %41 and ü.csv.gz",
    "inv/data/manifest.json",
    "only-a-name.csv.gz",
]


@pytest.fixture(params=["local", "store"])
def odd_mount(request, lab):
    """A manifest with all the odd keys, local or in a store. None of their objects needs to exist to be listed."""
    first = entry(lab.folder, ODD_KEYS[0], b"plain")
    files = [first] + [{"key": key, "size": 5, "MD5checksum": "0" * 32} for key in ODD_KEYS[1:]]
    made = write_manifest(lab.folder, files)
    if request.param == "local":
        return lambda: lab.mount(made.manifest_path)
    origin = lab.origin(lab.folder)
    return lambda: lab.mount(made.url, endpoint=origin.endpoint)


def names_by_key(mount):
    return {os.getxattr(mount.data / name, "user.s3.key").decode(): name for name in os.listdir(mount.data)}


def test_odd_keys_get_safe_distinct_names_and_keep_their_key_in_the_xattr(odd_mount):
    mount = odd_mount()
    names = os.listdir(mount.data)
    assert len(names) == len(set(names)) == len(ODD_KEYS)
    found = names_by_key(mount)
    assert set(found) == set(ODD_KEYS)
    for key, name in found.items():
        assert name not in (".", "..", "") and "/" not in name
        assert len(os.fsencode(name)) <= 255
        assert all(character.isprintable() for character in name), repr(name)
        assert stat.S_ISREG(os.stat(mount.data / name).st_mode)
    assert found["inv/data/plain.csv.gz"] == "plain.csv.gz"
    assert found["inv/data/spaces and %41 and ü.csv.gz"] == "spaces and %41 and ü.csv.gz"
    # A reader picks by ending, so every name keeps the one of its key.
    assert all(name.endswith(".csv.gz") for key, name in found.items() if key.endswith(".csv.gz"))
    assert (mount.data / "plain.csv.gz").read_bytes() == b"plain"


def test_the_names_of_odd_keys_stay_the_same_across_mounts(odd_mount):
    first = odd_mount()
    before = names_by_key(first)
    first.unmount()
    assert names_by_key(odd_mount()) == before


def test_two_keys_with_one_name_each_read_their_own_object(lab):
    files = [entry(lab.folder, f"inv/{folder}/same.csv.gz", folder.encode()) for folder in ("a", "bb", "ccc")]
    made = write_manifest(lab.folder, files)
    mount = lab.mount(made.url, endpoint=lab.origin(lab.folder).endpoint)
    read = {key: (mount.data / name).read_bytes() for key, name in names_by_key(mount).items()}
    assert read == {"inv/a/same.csv.gz": b"a", "inv/bb/same.csv.gz": b"bb", "inv/ccc/same.csv.gz": b"ccc"}


def test_a_local_key_with_dots_never_reads_outside_the_root(lab):
    """The root of a local source is the ancestor under which files[0].key exists."""
    (lab.folder / "outside.csv.gz").write_bytes(b"secret")
    inside = entry(lab.folder, "inv/data/plain.csv.gz", b"plain!")
    made = write_manifest(lab.folder, [
        inside, *({"key": key, "size": 6, "MD5checksum": "0" * 32}
                  for key in ("../outside.csv.gz", "inv/../../outside.csv.gz", f"{lab.folder}/outside.csv.gz"))])
    mount = lab.mount(made.manifest_path)
    for key, name in names_by_key(mount).items():
        if key == inside["key"]:
            assert (mount.data / name).read_bytes() == b"plain!"
        else:
            with pytest.raises(OSError):
                (mount.data / name).read_bytes()

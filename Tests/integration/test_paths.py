"""Paths that lead anywhere: into mounts that do not respond, to pipes without a partner, below a hidden mount, to names
that are no text; and several processes on one path."""

import os
import pathlib
import signal
import subprocess

import pytest

from harness import processes
from harness.lab import NOBODY, needs_root
from harness.processes import wait_until

pytestmark = needs_root


@pytest.fixture
def silent(lab, csv_inventory):
    """A mount whose process is stopped."""
    mount = lab.mount(csv_inventory.manifest_path, at="silent", foreground=False)
    mount.signal(signal.SIGSTOP)
    yield mount
    mount.signal(signal.SIGCONT)
    if os.path.ismount(mount.path):
        # Lookups of programs that have given up are in the kernel until the process has seen them.
        wait_until(lambda: lab.inventoryfs("unmount", mount.path).returncode == 0, "the mount to be free")


def refused(result, *mentioned):
    """One message, with status 1, that mentions all of this."""
    assert result.returncode == 1, result.stderr
    assert len(result.stderr.splitlines()) == 1 and "inventoryfs: " in result.stderr, result.stderr
    for text in mentioned:
        assert str(text) in result.stderr, result.stderr
    return result.stderr


# Mounts that do not respond

INTO_SILENCE = {
    "unmount": lambda lab, source, path, store: ["unmount", path / "data"],
    "mountpoint": lambda lab, source, path, store: ["mount", source.manifest_path, path / "data"],
    "missing mountpoint": lambda lab, source, path, store: ["mount", source.manifest_path, path / "missing" / "one"],
    "source": lambda lab, source, path, store: ["mount", path / "manifest.json", lab.mountpoint()],
    "log file": lambda lab, source, path, store: [
        "mount", source.manifest_path, lab.mountpoint(), "--log-file", path / "log"],
    "cache": lambda lab, source, path, store: [
        "mount", source.url, lab.mountpoint(), "--cache-dir", path / "x" / "y", "--endpoint-url", store.endpoint],
}


@pytest.mark.parametrize("way", INTO_SILENCE)
@pytest.mark.parametrize("linked", [False, True], ids=["direct", "linked"])
def test_a_path_into_a_mount_that_does_not_respond_is_refused(lab, seaweedfs, csv_inventory, silent, way, linked):
    path = silent.path
    if linked:
        path = lab.folder / "link"
        path.symlink_to(silent.path)
    result = lab.inventoryfs(*INTO_SILENCE[way](lab, csv_inventory, path, seaweedfs), timeout=30)
    message = refused(result, path, "does not respond")
    assert linked or f"unmount --lazy {silent.path}" in message
    assert processes.mounts_under(lab.folder) == [str(silent.path)]


def test_local_chunks_on_a_mount_that_does_not_respond_are_refused(lab, csv_inventory, silent):
    copy = lab.folder / "copy"
    manifest = copy / os.path.relpath(csv_inventory.manifest_path, csv_inventory.root)
    chunks = copy / os.path.relpath(os.path.dirname(next(iter(csv_inventory.chunks.values()))), csv_inventory.root)
    manifest.parent.mkdir(parents=True)
    chunks.mkdir(parents=True)
    manifest.write_bytes(pathlib.Path(csv_inventory.manifest_path).read_bytes())
    subprocess.run(["mount", "--bind", silent.path, chunks], check=True)
    try:
        result = lab.inventoryfs("mount", manifest, lab.mountpoint(), timeout=40)
        assert result.returncode == 1 and "does not respond" in result.stderr, result.stderr
    finally:
        subprocess.run(["umount", "-l", chunks], check=True)


@pytest.mark.parametrize("variable", ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"])
def test_a_credentials_file_in_a_mount_that_is_silent_is_refused(lab, seaweedfs, csv_inventory, silent, variable):
    path = silent.path / "credentials"
    result = lab.inventoryfs("mount", csv_inventory.url, lab.mountpoint(), "--endpoint-url", seaweedfs.endpoint,
                             timeout=40, **{variable: str(path)})
    refused(result, path, "does not respond")


def test_a_relative_path_in_a_mount_that_does_not_respond_is_refused(lab, csv_inventory, silent):
    result = subprocess.run([lab.binary, "unmount", "data"], env=lab.environment, cwd=silent.path, timeout=30,
                            stderr=subprocess.PIPE, text=True)
    refused(result, "data", "does not respond")


# Pipes without a partner

@pytest.mark.parametrize("variable", ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE"])
def test_a_credentials_file_that_is_a_pipe_without_a_writer_is_refused(lab, seaweedfs, csv_inventory, variable):
    pipe = lab.folder / "pipe"
    os.mkfifo(pipe)
    result = lab.inventoryfs(
        "mount", csv_inventory.url, lab.mountpoint(), "--endpoint-url", seaweedfs.endpoint, timeout=40,
        **{"AWS_ROLE_ARN": "arn:aws:iam::1:role/x", "AWS_ACCESS_KEY_ID": None,
           "AWS_SECRET_ACCESS_KEY": None, variable: str(pipe)})
    refused(result, pipe, "nobody writes to")


def test_credentials_of_a_process_substitution_are_read(lab, seaweedfs, csv_inventory):
    """The shell's <(command) is a pipe; it can be read once, and is needed more often, also after the mount."""
    keys = "\\n".join(["[default]", *(f"{name.lower()} = {lab.environment[name]}"
                                     for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))])
    path = lab.mountpoint()
    result = lab.run(
        "bash", "-c", f"AWS_SHARED_CREDENTIALS_FILE=<(sleep 1; printf '{keys}') AWS_CONFIG_FILE=<(:) exec "
        f"{lab.binary} mount {csv_inventory.url} {path} --endpoint-url {seaweedfs.endpoint} "
        f"--cache-dir {lab.folder / 'cache'}", AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None)
    assert result.returncode == 0, result.stderr
    name, original = next(iter(csv_inventory.chunks.items()))
    assert (path / "data" / name).read_bytes() == pathlib.Path(original).read_bytes()
    assert lab.inventoryfs("unmount", path).returncode == 0


def test_a_source_that_is_a_pipe_is_refused(lab):
    pipe = lab.folder / "manifest.json"
    os.mkfifo(pipe)
    refused(lab.inventoryfs("mount", pipe, lab.mountpoint(), timeout=30), pipe, "regular file")


def test_a_checksum_that_is_a_pipe_is_refused(lab, csv_inventory):
    copy = lab.folder / "manifest.json"
    copy.write_bytes(pathlib.Path(csv_inventory.manifest_path).read_bytes())
    os.mkfifo(lab.folder / "manifest.checksum")
    refused(lab.inventoryfs("mount", copy, lab.mountpoint(), timeout=30), "manifest.checksum", "regular file")


# The log file

def test_a_log_file_that_is_a_pipe_without_a_reader_is_refused(lab, csv_inventory):
    pipe = lab.folder / "pipe"
    os.mkfifo(pipe)
    result = lab.inventoryfs("mount", csv_inventory.manifest_path, lab.mountpoint(), "--log-file", pipe, timeout=30)
    refused(result, pipe, "nobody reads", "--log-file")


def test_a_log_may_go_to_standard_error_and_to_a_pipe_with_a_reader(lab, csv_inventory):
    pipe = lab.folder / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        for log in ("/dev/stderr", pipe):
            result = lab.inventoryfs("mount", csv_inventory.manifest_path, lab.mountpoint(), "--log-file", log,
                                     "--log-level", "info")
            assert result.returncode == 0, result.stderr
            assert lab.inventoryfs("unmount", lab.mountpoint()).returncode == 0
        assert b"unmounted" in os.read(reader, 10_000)
    finally:
        os.close(reader)


@pytest.mark.parametrize("way", ["inside", "linked"])
def test_a_log_file_inside_the_mountpoint_is_refused_and_not_created(lab, csv_inventory, way):
    path = lab.mountpoint()
    log = path / "log"
    if way == "linked":
        log = lab.folder / "log"
        log.symlink_to(path / "log")
    result = lab.inventoryfs("mount", csv_inventory.manifest_path, path, "--log-file", log)
    refused(result, log, "inside the mountpoint", "--log-file")
    assert os.listdir(path) == []


def test_an_empty_log_file_is_said_to_be_empty(lab, csv_inventory):
    result = lab.inventoryfs("mount", csv_inventory.manifest_path, lab.mountpoint(), "--log-file", "")
    assert result.returncode == 1 and "--log-file is empty" in result.stderr


def test_a_cache_that_a_link_puts_inside_the_mountpoint_is_refused(lab, seaweedfs, csv_inventory):
    path = lab.mountpoint()
    (lab.folder / "link").symlink_to(path)
    result = lab.inventoryfs("mount", csv_inventory.url, path, "--cache-dir", lab.folder / "link" / "cache",
                             "--endpoint-url", seaweedfs.endpoint)
    refused(result, "inside the mountpoint")
    assert os.listdir(path) == []


# Odd mountpoints

@pytest.mark.parametrize("way", ["argument", "current folder", "link"])
def test_a_mountpoint_that_is_not_utf8_is_refused_and_said_to_be(lab, csv_inventory, way):
    path = os.fsencode(lab.folder) + b"/odd\xff"
    os.mkdir(path)
    (lab.folder / "link").symlink_to(os.fsdecode(path))
    named, folder = {"argument": (path, lab.folder), "current folder": (b".", path),
                     "link": (b"link", lab.folder)}[way]
    for command in ([b"mount", os.fsencode(csv_inventory.manifest_path)], [b"unmount"]):
        result = subprocess.run([os.fsencode(lab.binary), *command, named], env=lab.environment, cwd=folder,
                                stderr=subprocess.PIPE, timeout=30)
        assert result.returncode == 1 and b"not UTF-8" in result.stderr
    assert processes.mounts_under(lab.folder) == []


def test_a_mountpoint_that_was_deleted_is_said_to_be(lab, csv_inventory):
    folder = lab.mountpoint("gone")
    result = subprocess.run(["bash", "-c", 'rmdir ../gone; exec "$0" mount "$1" .', lab.binary,
                             csv_inventory.manifest_path], env=lab.environment, cwd=folder, timeout=30,
                            stderr=subprocess.PIPE, text=True)
    refused(result, "was deleted")


@pytest.mark.parametrize("form", ["mnt/", "./mnt//", "x/../mnt", "link", "link/"])
def test_a_mountpoint_may_be_written_in_any_way(lab, csv_inventory, form):
    path = lab.mountpoint()
    lab.mountpoint("x")
    (lab.folder / "link").symlink_to("mnt")
    for command in (["mount", csv_inventory.manifest_path, form], ["unmount", form]):
        result = lab.inventoryfs(*command)
        assert result.returncode == 0, result.stderr
        assert processes.is_mounted(path) == (command[0] == "mount")


# Several mounts on one path

@pytest.mark.parametrize("dead", [False, True], ids=["free", "dead"])
def test_of_mounts_that_start_at_once_one_wins_and_the_others_are_refused(lab, csv_inventory, dead):
    path = lab.mountpoint()
    for _ in range(5):
        if dead:
            result = lab.inventoryfs("mount", csv_inventory.manifest_path, path)
            assert result.returncode == 0, result.stderr
            pid = int(os.getxattr(path, "user.inventoryfs.pid"))
            processes.kill(pid)
            wait_until(lambda: not processes.is_alive(pid), "the first to end")
        started = [lab.spawn(lab.binary, "mount", csv_inventory.manifest_path, path, stderr=subprocess.PIPE, text=True)
                   for _ in range(6)]
        ended = [(process.communicate(timeout=60)[1], process.returncode) for process in started]
        assert sorted(code for _, code in ended) == [0, 1, 1, 1, 1, 1], ended
        for said, code in ended:
            assert code == 0 or "is already mounted" in said
        assert processes.mounts_under(lab.folder) == [str(path)]
        result = lab.inventoryfs("unmount", path)
        assert result.returncode == 0, result.stderr


def test_of_unmounts_at_once_one_wins_and_none_takes_what_lies_below(lab, csv_inventory):
    path = lab.mountpoint()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", path], check=True)
    for _ in range(5):
        result = lab.inventoryfs("mount", csv_inventory.manifest_path, path)
        assert result.returncode == 0, result.stderr
        started = [lab.spawn(lab.binary, "unmount", path, stderr=subprocess.DEVNULL) for _ in range(6)]
        assert [process.wait(60) for process in started].count(0) == 1
        assert processes.mounts_under(lab.folder) == [str(path)], "the tmpfs"
    subprocess.run(["umount", path], check=True)


def test_a_folder_that_somebody_keeps_locked_can_be_mounted_on(lab, csv_inventory):
    path = lab.mountpoint()
    holder = lab.spawn("flock", lab.folder, "sleep", "1000")
    try:
        wait_until(lambda: subprocess.run(["flock", "-n", lab.folder, "true"]).returncode == 1, "the lock")
        for command in (["mount", csv_inventory.manifest_path, path], ["unmount", path]):
            result = lab.inventoryfs(*command)
            assert result.returncode == 0, result.stderr
    finally:
        for pid in processes.marked_processes(lab.mark):
            processes.kill(pid)
        holder.wait(20)
        wait_until(lambda: not processes.marked_processes(lab.mark), "all to end")


def test_a_mount_that_a_later_one_hides_is_said_to_be_hidden(lab, csv_inventory):
    top = lab.folder / "top"
    (top / "mnt").mkdir(parents=True)
    mount = lab.mount(csv_inventory.manifest_path, at="top/mnt", foreground=False)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", top], check=True)
    refused(lab.inventoryfs("unmount", mount.path), "hidden", top, "tmpfs")
    # What is to be seen there is another folder, which can be mounted on.
    mount.path.mkdir()
    refused(lab.inventoryfs("unmount", mount.path), "hidden")
    for command in (["mount", csv_inventory.manifest_path, mount.path], ["unmount", mount.path]):
        result = lab.inventoryfs(*command)
        assert result.returncode == 0, result.stderr
    subprocess.run(["umount", top], check=True)
    assert int(mount.xattr("user.inventoryfs.pid")) == mount.pid, "it was left alone"


def test_a_mount_over_ours_stays_when_our_process_ends(lab, csv_inventory):
    mount = lab.mount(csv_inventory.manifest_path, foreground=False)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", mount.path], check=True)
    (mount.path / "file").write_text("mine")
    mount.signal(signal.SIGTERM)
    mount.wait_for_end()
    assert (mount.path / "file").read_text() == "mine"
    subprocess.run(["umount", mount.path], check=True)
    subprocess.run(["umount", mount.path], check=True)


def test_a_second_mount_of_ours_on_the_path_is_named(lab, csv_inventory):
    mount = lab.mount(csv_inventory.manifest_path, foreground=False)
    subprocess.run(["mount", "--bind", mount.path, mount.path], check=True)
    refused(lab.inventoryfs("unmount", mount.path), "still serves", mount.path, f"kill {mount.pid}")
    assert os.listdir(mount.data)


# Namespaces

@pytest.mark.alone
@pytest.mark.parametrize("propagation", ["private", "slave"])
def test_unmounting_a_namespaces_copy_leaves_the_mount_and_says_so(lab, csv_inventory, propagation):
    mount = lab.mount(csv_inventory.manifest_path, foreground=False)
    result = lab.run("unshare", "--mount", "--propagation", propagation, lab.binary, "unmount", mount.path)
    assert result.returncode == 0, result.stderr
    assert f"process {mount.pid} goes on" in result.stderr and str(mount.path) in result.stderr
    assert "kill" not in result.stderr
    assert os.listdir(mount.data)


@pytest.mark.alone
def test_a_copy_that_a_user_namespace_may_not_unmount_is_said_to_be_one(lab, csv_inventory):
    mount = lab.mount(csv_inventory.manifest_path, foreground=False)
    result = lab.run("unshare", "--user", "--map-root-user", "--mount", lab.binary, "unmount", mount.path)
    refused(result, "cannot be unmounted alone in this mount namespace")
    assert os.listdir(mount.data)


@pytest.mark.alone
def test_without_the_table_of_mounts_nothing_is_said_about_mounts(lab, csv_inventory):
    mount = lab.mount(csv_inventory.manifest_path, foreground=False)
    for command in (f"unmount {mount.path}", f"mount --foreground {csv_inventory.manifest_path} {mount.path}"):
        result = lab.run("unshare", "--mount", "sh", "-c", f"umount -l /proc; exec {lab.binary} {command}")
        refused(result, "/proc/self/mountinfo cannot be read")
    assert os.listdir(mount.data)


# What mounting needs

WITHOUT = {
    "CAP_SYS_ADMIN": (["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"], "CAP_SYS_ADMIN"),
    "a namespace": (["unshare", "--user", "--map-root-user"], "unshare --user --map-root-user --mount"),
    "/dev/fuse": (["unshare", "--mount", "sh", "-c", 'mount --bind /dev/null /dev/fuse; exec "$@"', "-"],
                  "/dev/fuse cannot be used"),
}
USERS_WITHOUT = {
    "privileges": (["setpriv", "--no-new-privs"], "no_new_privs"),
    "fusermount3": ("mount --bind /dev/null /usr/bin/fusermount3", "install the package fuse3"),
    "set-user-ID": ("mount --bind /bin/true /usr/bin/fusermount3", "chmod u+s"),
    "/dev/fuse": ("mount -t tmpfs none /mnt; cp -a /dev/fuse /mnt; chmod 600 /mnt/fuse; "
                  "mount --bind /mnt/fuse /dev/fuse",
                  "chmod 0666 /dev/fuse"),
}


@pytest.mark.alone
@pytest.mark.parametrize("what", WITHOUT)
def test_root_is_told_what_mounting_lacks(lab, csv_inventory, what):
    prefix, mentioned = WITHOUT[what]
    refused(lab.run(*prefix, lab.binary, "mount", csv_inventory.manifest_path, lab.mountpoint()), mentioned)


@pytest.mark.alone
@pytest.mark.parametrize("what", USERS_WITHOUT)
def test_an_ordinary_user_is_told_what_mounting_lacks(lab, csv_inventory, what):
    way, mentioned = USERS_WITHOUT[what]
    os.chown(lab.mountpoint(), NOBODY, NOBODY)
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    prefix = way if isinstance(way, list) else ["unshare", "--mount", "sh", "-c", f'{way}; exec "$@"', "-"]
    # Whoever gave up gaining privileges may still give up others.
    refused(lab.run(*prefix, *user, lab.binary_for_everybody(), "mount", csv_inventory.manifest_path, lab.mountpoint()),
            mentioned)


# Overlays

@pytest.fixture
def overlays(lab):
    """Mounts one overlay on a folder and another on that; returns how many the kernel allowed."""
    scratch = lab.mountpoint("overlays")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m", "none", scratch], check=True)

    def mount(lower):
        for count in (1, 2):
            for name in ("upper", "work", "merged"):
                (scratch / f"{name}{count}").mkdir()
            options = f"lowerdir={lower},upperdir={scratch}/upper{count},workdir={scratch}/work{count}"
            lower = scratch / f"merged{count}"
            done = subprocess.run(["mount", "-t", "overlay", "-o", options, "none", lower], stderr=subprocess.DEVNULL)
            if done.returncode:
                return count - 1
        return 2

    mount.scratch = scratch
    yield mount
    for path in processes.mounts_under(scratch):
        subprocess.run(["umount", path])


def test_two_overlays_fit_on_a_mount_that_lends_no_files(lab, seaweedfs, csv_inventory, overlays):
    """A cache on an overlay, as in a container: the kernel would refuse its files."""
    assert overlays("/usr/share") >= 1
    mount = lab.mount(csv_inventory.url, "--log-level", "debug", endpoint=seaweedfs.endpoint, cache=overlays.scratch / "merged1" / "cache")
    if "passthrough: on" in mount.logged("passthrough:")[0]:
        pytest.fail("its files cannot be lent")
    for path in ("upper", "work"):
        (overlays.scratch / f"{path}3").mkdir()
        (overlays.scratch / f"{path}4").mkdir()
    above = [lab.mountpoint("above1"), lab.mountpoint("above2")]
    lower = mount.path
    for number, path in enumerate(above, 3):
        subprocess.run(["mount", "-t", "overlay", "-o", f"lowerdir={lower},upperdir={overlays.scratch}/upper{number},"
                        f"workdir={overlays.scratch}/work{number}", "none", path], check=True)
        lower = path
    name, original = next(iter(csv_inventory.chunks.items()))
    assert (above[1] / "data" / name).read_bytes() == pathlib.Path(original).read_bytes()
    for path in reversed(above):
        subprocess.run(["umount", path], check=True)
    mount.unmount()


def test_one_overlay_fits_on_a_mount_that_lends_files(lab, csv_inventory, overlays):
    mount = lab.mount(csv_inventory.manifest_path)
    name, original = next(iter(csv_inventory.chunks.items()))
    lends = mount.xattr("user.inventoryfs.read_path", name) == "passthrough"
    assert overlays(mount.path) == (1 if lends else 2), "docs/README say how many"
    assert (overlays.scratch / "merged1" / "data" / name).read_bytes() == pathlib.Path(original).read_bytes()


# Copies

def test_copies_keep_what_is_true_of_them(lab, seaweedfs, csv_inventory):
    mount = lab.mount(csv_inventory.url, endpoint=seaweedfs.endpoint)
    name = next(iter(csv_inventory.chunks))
    subprocess.run(["cp", "-a", mount.data, lab.folder / "copy"], check=True)
    copied = os.listxattr(lab.folder / "copy" / name)
    assert set(copied) == {"user.s3.bucket", "user.s3.key", "user.s3.etag", "user.inventory.md5"}
    # What is about the mount can be read by name.
    for attribute in ("cached_bytes", "read_path", "verified"):
        assert mount.xattr(f"user.inventoryfs.{attribute}", name)
    assert "user.inventoryfs.requests" in os.listxattr(mount.path), "getfattr -d shows a person the gauges"

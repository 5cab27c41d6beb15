"""The process: background and foreground, signals, dead mountpoints, logs, ordinary users, local sources."""

import contextlib
import fcntl
import os
import pathlib
import shutil
import signal
import stat
import struct
import subprocess
import termios

import pytest

from harness import processes
from harness.lab import NOBODY, needs_root
from harness.processes import wait_until


def test_mount_puts_itself_in_the_background_and_returns_0_once_it_answers(lab, seaweedfs, csv_inventory):
    command = [lab.binary, "mount", csv_inventory.url, lab.mountpoint(), "--cache-dir", lab.folder / "cache",
               "--endpoint-url", seaweedfs.endpoint]
    # Reading both pipes to their end also shows that the daemon keeps neither.
    result = subprocess.run(command, env=lab.environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert result.stdout == b""
    path = lab.folder / "mnt"
    assert sorted(os.listdir(path / "data")) == sorted(csv_inventory.chunks)
    pid = int(os.getxattr(path, "user.inventoryfs.pid"))
    assert processes.is_alive(pid)
    assert os.getsid(pid) != os.getsid(0), "a terminal's Ctrl-C must not reach it"
    assert os.readlink(f"/proc/{pid}/cwd") == "/", "it must not keep the folder busy in which it was started"
    assert lab.inventoryfs("unmount", path).returncode == 0
    wait_until(lambda: not processes.is_alive(pid), "the daemon to end")
    assert not processes.is_mounted(path)


def test_the_background_process_keeps_nothing_open_that_its_caller_had_open(lab, csv_inventory):
    lock = lab.folder / "lock"
    with open(lock, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        subprocess.run([lab.binary, "mount", csv_inventory.manifest_path, lab.mountpoint()], check=True,
                       env=lab.environment, stdin=subprocess.DEVNULL, pass_fds=[held.fileno()], timeout=60)
    with open(lock) as next_holder:
        fcntl.flock(next_holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert lab.inventoryfs("unmount", lab.folder / "mnt").returncode == 0


def test_a_caller_without_standard_descriptors_gets_a_mount(lab, csv_inventory):
    path = lab.mountpoint()
    command = 'exec "$0" mount "$1" "$2" <&- >&- 2>&-'
    result = subprocess.run(["sh", "-c", command, lab.binary, csv_inventory.manifest_path, path], env=lab.environment,
                            timeout=60)
    assert result.returncode == 0
    assert sorted(os.listdir(path / "data")) == sorted(csv_inventory.chunks)
    assert lab.inventoryfs("unmount", path).returncode == 0


def test_a_failure_in_the_background_returns_1_and_one_message(lab, seaweedfs, csv_inventory):
    result = lab.inventoryfs("mount", csv_inventory.url, lab.mountpoint(), "--cache-dir", lab.folder / "cache",
                             "--endpoint-url", seaweedfs.endpoint, AWS_SECRET_ACCESS_KEY="wrong")
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.count("inventoryfs: ") == 1
    assert not processes.is_mounted(lab.folder / "mnt")
    assert not processes.marked_processes(lab.mark)


@pytest.mark.parametrize("foreground", [True, False], ids=["foreground", "background"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_unmounts(lab, csv_inventory, number, foreground):
    mount = lab.mount(csv_inventory.manifest_path, foreground=foreground)
    mount.signal(number)
    mount.wait_for_end()
    assert not mount.is_mounted()
    assert not foreground or mount.process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_unmounts_although_a_file_is_open(lab, seaweedfs, csv_inventory, number):
    mount = lab.mount(csv_inventory.url, endpoint=seaweedfs.endpoint)
    with open(mount.data / next(iter(csv_inventory.chunks)), "rb", buffering=0) as file:
        assert file.read(2) == b"\x1f\x8b"
        mount.signal(number)
        wait_until(lambda: not mount.is_mounted(), "the mount to go")
        mount.wait_for_end()
    assert mount.process.returncode == 0


def test_a_signal_unmounts_although_a_reader_waits_for_a_store_that_hangs(lab, csv_inventory):
    origin = lab.origin(csv_inventory.root, fault_plan={
        "rules": [{"match": {"keySuffix": ".csv.gz"}, "fault": {"kind": "hangBeforeHead"}}]})
    # For so long it would wait.
    mount = lab.mount(csv_inventory.url, "--read-timeout", "1h", endpoint=origin.endpoint)
    reader = lab.spawn("cat", mount.data / next(iter(csv_inventory.chunks)), stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
    wait_until(lambda: any(key.endswith(".csv.gz") for key in (request.key for request in origin.requests())),
               "the read to reach the store")
    mount.signal(signal.SIGTERM)
    mount.wait_for_end()
    assert mount.process.returncode == 0
    assert not mount.is_mounted()
    assert reader.wait(60) != 0


def test_a_signal_unmounts_and_ends_the_process_although_its_log_hangs(lab, csv_inventory):
    pipe = lab.folder / "log"
    os.mkfifo(pipe)
    log = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    fcntl.fcntl(log, fcntl.F_SETPIPE_SZ, 4096)

    def unread_bytes():
        return struct.unpack("i", fcntl.ioctl(log, termios.FIONREAD, bytes(4)))[0]

    origin = lab.origin(csv_inventory.root)
    mount = lab.mount(csv_inventory.url, "--log-file", pipe, "--log-level", "trace", endpoint=origin.endpoint)
    reader = lab.spawn("cat", *(mount.data / name for name in csv_inventory.chunks), stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
    wait_until(lambda: unread_bytes() > 2048, "the log to be written to")
    # Up to its last byte, so that the next line keeps its thread, however long it is.
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(log, b"\n")
    mount.signal(signal.SIGTERM)
    mount.wait_for_end()
    assert mount.process.returncode == 1
    assert not mount.is_mounted()
    reader.wait(60)
    os.close(log)


def test_a_signal_ends_a_process_whose_log_hangs_from_the_first_line_on(lab, csv_inventory):
    pipe = lab.folder / "log"
    os.mkfifo(pipe)
    log = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    os.write(log, bytes(fcntl.fcntl(log, fcntl.F_SETPIPE_SZ, 4096)))
    # Says that it is mounted, and cannot.
    mount = lab.mount(csv_inventory.manifest_path, "--log-file", pipe, "--log-level", "info")
    mount.signal(signal.SIGTERM)
    mount.wait_for_end()
    assert mount.process.returncode == 1
    assert not mount.is_mounted()
    os.close(log)


def test_a_reader_that_is_interrupted_ends_although_the_store_hangs(lab, csv_inventory):
    origin = lab.origin(csv_inventory.root, fault_plan={
        "rules": [{"match": {"keySuffix": ".csv.gz"}, "fault": {"kind": "hangBeforeHead"}}]})
    # For so long it would wait.
    mount = lab.mount(csv_inventory.url, "--read-timeout", "1h", endpoint=origin.endpoint)
    reader = lab.spawn("cat", mount.data / next(iter(csv_inventory.chunks)), stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
    wait_until(lambda: any(key.endswith(".csv.gz") for key in (request.key for request in origin.requests())),
               "the read to reach the store")
    reader.send_signal(signal.SIGINT)
    assert reader.wait(60) == -signal.SIGINT


def test_unmounting_with_a_file_open_is_refused_unless_lazy(lab, csv_inventory):
    mount = lab.mount(csv_inventory.manifest_path)
    name, path = next(iter(csv_inventory.chunks.items()))
    with open(mount.data / name, "rb", buffering=0) as file:
        busy = lab.inventoryfs("unmount", mount.path)
        assert busy.returncode == 1
        assert busy.stderr.startswith("inventoryfs: ") and str(mount.path) in busy.stderr and "--lazy" in busy.stderr
        assert lab.inventoryfs("unmount", mount.path, "--lazy").returncode == 0
        assert not mount.is_mounted()
        # Lazily unmounted, it goes on for who has it open.
        assert file.read(100) == path.read_bytes()[:100]
    mount.wait_for_end()


@pytest.mark.parametrize("user", [None, pytest.param(NOBODY, marks=needs_root)], ids=["self", "nobody"])
def test_a_mount_that_was_unmounted_lazily_ends_without_taking_the_next_one_away(lab, seaweedfs, csv_inventory, user):
    first = lab.mount(csv_inventory.url, endpoint=seaweedfs.endpoint, user=user)
    name = next(iter(csv_inventory.chunks))
    holder = lab.spawn("tail", "-f", first.data / name, user=user, group=user, stdout=subprocess.DEVNULL)
    wait_until(lambda: any(path == str(first.data / name) for path, _ in processes.open_files(holder.pid)),
               "the file to be opened")
    lazily = lab.run(lab.binary_for_everybody(), "unmount", "--lazy", first.path, user=user)
    assert lazily.returncode == 0, lazily.stderr
    assert processes.is_alive(first.pid)
    second = lab.mount(csv_inventory.url, endpoint=seaweedfs.endpoint, cache="another", user=user)
    first.signal(signal.SIGTERM)
    first.wait_for_end()
    assert second.is_mounted()
    assert int(second.xattr("user.inventoryfs.pid")) == second.pid
    holder.kill()
    holder.wait()
    second.unmount()


def test_fusermount3_unmounts_too(lab, csv_inventory):
    mount = lab.mount(csv_inventory.manifest_path)
    # The daemon may just be having its own first look at the mount, and then it is in use.
    wait_until(lambda: subprocess.run(["fusermount3", "-u", mount.path]).returncode == 0, "fusermount3 to unmount", 5)
    mount.wait_for_end()
    assert mount.process.returncode == 0


def test_unmounting_what_is_not_mounted_is_refused(lab):
    for path in (lab.mountpoint(), lab.folder / "missing"):
        result = lab.inventoryfs("unmount", path)
        assert result.returncode == 1
        assert result.stderr.startswith("inventoryfs: ") and str(path) in result.stderr


@pytest.mark.parametrize("foreground", [True, False], ids=["foreground", "background"])
def test_a_dead_mountpoint_is_cleared_and_mounted_over(lab, csv_inventory, foreground):
    first = lab.mount(csv_inventory.manifest_path)
    first.kill()
    with pytest.raises(OSError):
        os.statvfs(first.path)  # Transport endpoint is not connected; a listing may come from the kernel's cache
    second = lab.mount(csv_inventory.manifest_path, foreground=foreground)
    assert sorted(os.listdir(second.data)) == sorted(csv_inventory.chunks)
    assert processes.mounts_under(lab.folder) == [str(second.path)], "the dead one is still below it"


@pytest.mark.parametrize("foreground", [["--foreground"], []], ids=["foreground", "background"])
def test_a_directory_that_holds_something_is_not_mounted_over(lab, csv_inventory, foreground):
    path = lab.mountpoint()
    (path / "precious").mkdir()
    before = processes.mounts_under(lab.folder)
    result = lab.inventoryfs("mount", *foreground, csv_inventory.manifest_path, path)
    assert result.returncode == 1
    assert str(path) in result.stderr and "'precious'" in result.stderr and "empty directory" in result.stderr
    assert processes.mounts_under(lab.folder) == before
    assert os.listdir(path) == ["precious"]


def test_a_command_in_a_message_can_be_pasted(lab, csv_inventory):
    path = lab.folder / "it's a folder"
    result = lab.inventoryfs("mount", csv_inventory.manifest_path, path)
    assert result.returncode == 1
    subprocess.run("mkdir" + result.stderr.partition(": mkdir")[2], shell=True, check=True)
    assert path.is_dir()


@pytest.mark.parametrize("arguments", [["mount", "", "mnt"], ["mount", "manifest.json", ""], ["unmount", ""]],
                         ids=["source", "mountpoint", "unmount"])
def test_an_empty_argument_is_said_to_be_one(lab, arguments):
    result = lab.inventoryfs(*arguments)
    assert result.returncode == 1
    assert "is empty" in result.stderr and "Usage:" in result.stderr


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_dates_folder_stands_for_its_manifest(lab, seaweedfs, csv_inventory, slash):
    for source in (csv_inventory.url.rpartition("/")[0], csv_inventory.manifest_path.parent):
        mount = lab.mount(f"{source}{slash}", endpoint=seaweedfs.endpoint if "://" in str(source) else None)
        assert sorted(os.listdir(mount.data)) == sorted(csv_inventory.chunks)
        mount.unmount()


def test_a_folder_in_a_bucket_is_no_manifest(lab, csv_inventory):
    result = lab.inventoryfs("mount", csv_inventory.url.rsplit("/", 2)[0] + "/", lab.mountpoint())
    assert result.returncode == 1
    assert "names a folder" in result.stderr and "manifest.json" in result.stderr


def test_a_cache_inside_the_mountpoint_is_refused(lab, seaweedfs, csv_inventory):
    path = lab.mountpoint()
    result = lab.inventoryfs("mount", csv_inventory.url, path, "--endpoint-url", seaweedfs.endpoint,
                             "--cache-dir", path / "cache")
    assert result.returncode == 1
    assert str(path / "cache") in result.stderr and "--cache-dir" in result.stderr
    assert not processes.is_mounted(path)
    assert os.listdir(path) == []


def test_a_dead_mountpoint_can_be_unmounted(lab, csv_inventory):
    mount = lab.mount(csv_inventory.manifest_path)
    mount.kill()
    assert lab.inventoryfs("unmount", mount.path).returncode == 0
    assert not mount.is_mounted()


def test_the_log_goes_to_the_file_that_was_named(lab, seaweedfs, csv_inventory):
    log = lab.folder / "daemon.log"
    mount = lab.mount(csv_inventory.url, "--log-level", "debug", "--log-file", log, endpoint=seaweedfs.endpoint,
                      foreground=False)
    (mount.data / next(iter(csv_inventory.chunks))).read_bytes()
    mount.unmount()
    text = log.read_text()
    assert csv_inventory.manifest_key in text
    for secret in ("AWS_SECRET_ACCESS_KEY", lab.environment["AWS_SECRET_ACCESS_KEY"]):
        assert secret not in text


def test_what_is_said_while_mounting_in_the_background_is_in_the_log_file_too(lab, csv_inventory):
    folder = lab.folder / "inventory"
    shutil.copytree(csv_inventory.root, folder)
    manifest = folder / csv_inventory.manifest_path.relative_to(csv_inventory.root)
    manifest.with_name("manifest.checksum").unlink()
    log = lab.folder / "daemon.log"
    result = lab.inventoryfs("mount", manifest, lab.mountpoint(), "--log-file", log)
    assert result.returncode == 0, result.stderr
    for text in (result.stderr, log.read_text()):
        assert "manifest.checksum does not exist" in text
    assert lab.inventoryfs("unmount", lab.folder / "mnt").returncode == 0


def test_a_log_file_that_cannot_be_written_is_refused(lab, csv_inventory):
    path = lab.folder / "missing" / "daemon.log"
    result = lab.inventoryfs("mount", csv_inventory.manifest_path, lab.mountpoint(), "--log-file", path)
    assert result.returncode == 1
    assert str(path) in result.stderr
    assert not processes.is_mounted(lab.folder / "mnt")


@needs_root
def test_a_cache_folder_on_a_disk_that_is_read_only_or_too_small_says_so(lab, seaweedfs, csv_inventory):
    disk = lab.folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "none", disk], check=True)
    try:
        def message():
            result = lab.inventoryfs("mount", csv_inventory.url, lab.mountpoint(), "--endpoint-url", seaweedfs.endpoint,
                                     "--cache-dir", disk)
            assert result.returncode == 1
            assert str(disk) in result.stderr and "--cache-dir" in result.stderr
            return result.stderr
        disk.chmod(0o700)
        assert "20MiB are free" in message() and "16MiB" in message()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert "read-only" in message() and "free" not in message()
    finally:
        subprocess.run(["umount", disk], check=True)


# Local sources

@pytest.mark.parametrize("way", ["path", "relative path", "file URL", "escaped file URL"])
def test_a_manifest_on_disk_mounts(lab, csv_inventory, way):
    folder = lab.folder / "with a space"
    folder.symlink_to(csv_inventory.root)
    path = csv_inventory.manifest_path
    spaced = folder / path.relative_to(csv_inventory.root)
    source = {"path": path, "relative path": os.path.relpath(path, lab.folder), "file URL": f"file://{path}",
              "escaped file URL": f"file://{str(spaced).replace(' ', '%20')}"}[way]
    os.chdir(lab.folder)
    try:
        mount = lab.mount(source)
    finally:
        os.chdir("/")
    for name, local in csv_inventory.chunks.items():
        assert (mount.data / name).read_bytes() == local.read_bytes()


def test_a_manifest_on_disk_needs_no_credentials(lab, csv_inventory):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        del lab.environment[name]
    mount = lab.mount(csv_inventory.manifest_path)
    assert (mount.data / next(iter(csv_inventory.chunks))).read_bytes()[:2] == b"\x1f\x8b"


def test_flags_that_a_manifest_on_disk_has_no_use_for_are_named(lab, csv_inventory):
    mount = lab.mount(csv_inventory.manifest_path, "--bucket", "other", "--region", "eu-west-1")
    line, = mount.logged("no effect")
    assert "--region, --bucket:" in line and "s3://" in line


# Credentials

def test_keys_come_from_a_profile_of_the_credentials_file(lab, seaweedfs, csv_inventory):
    aws = lab.folder / "home" / ".aws"
    aws.mkdir()
    (aws / "credentials").write_text(
        "[default]\naws_access_key_id = AKIDNOBODY\naws_secret_access_key = wrong\n\n"
        f"[inventory]\naws_access_key_id = {lab.environment.pop('AWS_ACCESS_KEY_ID')}\n"
        f"aws_secret_access_key = {lab.environment.pop('AWS_SECRET_ACCESS_KEY')}\n")
    mount = lab.mount(csv_inventory.url, "--profile", "inventory", endpoint=seaweedfs.endpoint)
    name, path = next(iter(csv_inventory.chunks.items()))
    assert (mount.data / name).read_bytes() == path.read_bytes()


def test_a_profile_that_is_not_there_is_refused(lab, seaweedfs, csv_inventory):
    result = lab.inventoryfs("mount", csv_inventory.url, lab.mountpoint(), "--profile", "absent",
                             "--cache-dir", lab.folder / "cache", "--endpoint-url", seaweedfs.endpoint)
    assert result.returncode == 1
    assert "absent" in result.stderr and "credentials" in result.stderr


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_the_store_of_the_environment_is_asked(lab, seaweedfs, csv_inventory, variable):
    result = lab.inventoryfs("mount", csv_inventory.url, lab.mountpoint(), "--cache-dir", lab.folder / "cache",
                             **{variable: seaweedfs.endpoint})
    assert result.returncode == 0, result.stderr
    assert lab.inventoryfs("unmount", lab.folder / "mnt").returncode == 0


def test_without_signing_an_open_store_is_read(lab, csv_inventory):
    origin = lab.origin(csv_inventory.root, "--anonymous")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del lab.environment[name]
    mount = lab.mount(csv_inventory.url, "--no-sign-request", endpoint=origin.endpoint)
    name, path = next(iter(csv_inventory.chunks.items()))
    assert (mount.data / name).read_bytes() == path.read_bytes()


def test_the_bucket_of_the_chunks_can_be_overridden(lab, csv_inventory):
    """The manifest says inventory-bucket; a copy of everything is in another one."""
    copies = lab.folder / "buckets"
    copies.mkdir()
    (copies / "copy").symlink_to(csv_inventory.root / "inventory-bucket")
    origin = lab.origin(copies)
    mount = lab.mount(f"s3://copy/{csv_inventory.manifest_key}", "--bucket", "copy", endpoint=origin.endpoint)
    name, path = next(iter(csv_inventory.chunks.items()))
    assert (mount.data / name).read_bytes() == path.read_bytes()
    assert mount.xattr("user.s3.bucket", name) == "copy"


# Other users

@needs_root
@pytest.mark.parametrize("foreground", [True, False], ids=["foreground", "background"])
def test_an_ordinary_user_mounts_reads_and_unmounts(lab, seaweedfs, csv_inventory, foreground):
    assert stat.S_IMODE(os.stat("/dev/fuse").st_mode) == 0o666, "chmod 0666 /dev/fuse, as Tests/run does"
    mount = lab.mount(csv_inventory.url, endpoint=seaweedfs.endpoint, user=NOBODY, foreground=foreground,
                      binary=lab.binary_for_everybody())
    owner = lab.run("stat", "-c", "%u %g %a", mount.path, mount.data, user=NOBODY)
    assert owner.stdout == f"{NOBODY} {NOBODY} 555\n" * 2
    for name, path in csv_inventory.chunks.items():
        assert lab.run("cmp", mount.data / name, path, user=NOBODY).returncode == 0
    mount.unmount()
    assert not mount.is_mounted()


@needs_root
def test_the_default_cache_is_private_to_its_user(lab, seaweedfs, csv_inventory):
    home = lab.folder / "home"
    os.chown(home, NOBODY, NOBODY)
    os.chown(lab.mountpoint(), NOBODY, NOBODY)
    binary = lab.binary_for_everybody()
    mounted = lab.run(binary, "mount", csv_inventory.url, lab.folder / "mnt", "--endpoint-url", seaweedfs.endpoint,
                      user=NOBODY, XDG_CACHE_HOME=str(home / "xdg"))
    assert mounted.returncode == 0, mounted.stderr
    chunk = lab.folder / "mnt" / "data" / next(iter(csv_inventory.chunks))
    assert lab.run("md5sum", chunk, user=NOBODY).returncode == 0
    found = [pathlib.Path(folder, name) for folder, folders, files in os.walk(home / "xdg" / "inventoryfs")
             for name in [".", *files]]
    assert any(path.is_file() for path in found)
    for path in found:
        status = path.lstat()
        assert status.st_uid == NOBODY
        assert stat.S_IMODE(status.st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert lab.run(binary, "unmount", lab.folder / "mnt", user=NOBODY).returncode == 0
    wait_until(lambda: not processes.marked_processes(lab.mark), "the daemon to end")


@needs_root
def test_other_users_are_let_in_only_with_allow_other(lab, csv_inventory):
    closed = lab.mount(csv_inventory.manifest_path, at="closed", cache="closed-cache")
    denied = lab.run("ls", closed.path, user=NOBODY)
    assert denied.returncode != 0 and "Permission denied" in denied.stderr
    opened = lab.mount(csv_inventory.manifest_path, "--allow-other", at="opened", cache="opened-cache")
    name, path = next(iter(csv_inventory.chunks.items()))
    assert lab.run("cmp", opened.data / name, path, user=NOBODY).returncode == 0


@needs_root
def test_with_allow_other_the_modes_are_enforced(lab, csv_inventory):
    mount = lab.mount(csv_inventory.manifest_path, "--allow-other", "--file-mode", "0400")
    denied = lab.run("cat", mount.data / next(iter(csv_inventory.chunks)), user=NOBODY)
    assert denied.returncode != 0 and "Permission denied" in denied.stderr


@needs_root
def test_unmounting_what_another_user_has_mounted_says_whose_it_is(lab, csv_inventory):
    mount = lab.mount(csv_inventory.manifest_path)
    result = lab.run(lab.binary_for_everybody(), "unmount", mount.path, user=NOBODY)
    assert result.returncode == 1
    assert str(mount.path) in result.stderr and "mounted by user 0" in result.stderr
    assert mount.is_mounted()


# Help

HELP = {
    "": ["mount", "unmount"],
    "mount": ["--endpoint-url", "--region", "--profile", "--no-sign-request", "--bucket", "--cache-dir", "--cache-size",
              "--cache-min-free", "--verify", "--max-connections", "--network-threads", "--read-timeout",
              "--memory-limit", "--uid", "--gid", "--file-mode", "--dir-mode", "--allow-other", "--foreground",
              "--log-level", "--log-file"],
    "unmount": ["--lazy"],
}


@pytest.mark.parametrize("command", HELP)
def test_help_is_printed_and_names_every_option(lab, command):
    result = lab.inventoryfs(*command.split(), "--help")
    assert result.returncode == 0
    for option in HELP[command]:
        assert option in result.stdout
    assert "descriptor" not in result.stdout, "what is not for users"

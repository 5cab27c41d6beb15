"""What is not the program's own: mounts of other programs, other namespaces, the automounter."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess

import pytest

from harness import processes
from harness.lab import needs_root
from harness.processes import wait_until

pytestmark = needs_root


# Mounts of other programs

@pytest.fixture
def foreign(lab):
    """A live bindfs on the mountpoint; `kill` leaves it dead."""
    lower = lab.folder / "lower"
    lower.mkdir()
    path = lab.mountpoint()
    process = lab.spawn("bindfs", "-f", lower, path)
    wait_until(lambda: processes.is_mounted(path), "bindfs to mount")
    yield path, process
    processes.unmount_lazily(path)
    process.kill()
    process.wait(20)


@pytest.mark.parametrize("dead", [True, False], ids=["dead", "live"])
def test_a_mount_of_another_program_is_left_alone(lab, csv_inventory, foreign, dead):
    path, process = foreign
    if dead:
        process.kill()
        process.wait(20)
    result = lab.inventoryfs("mount", csv_inventory.manifest_path, path)
    assert result.returncode == 1
    assert "already mounted (fuse" in result.stderr and f"umount {path}" in result.stderr
    assert ("has ended" in result.stderr) == dead
    assert processes.mounts_under(lab.folder) == [str(path)]


def test_unmounting_a_mount_of_another_program_is_refused(lab, foreign):
    path, _ = foreign
    result = lab.inventoryfs("unmount", path)
    assert result.returncode == 1 and "not by inventoryfs" in result.stderr
    assert processes.is_mounted(path)


def test_a_mount_that_was_moved_over_ours_is_not_taken_for_ours(lab, csv_inventory):
    """The kernel's table lists it before ours, in the order in which they were made."""
    elsewhere = lab.mountpoint("elsewhere")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", elsewhere], check=True)
    (elsewhere / "file").write_text("mine")
    mount = lab.mount(csv_inventory.manifest_path, foreground=False)
    subprocess.run(["mount", "--move", elsewhere, mount.path], check=True)
    result = lab.inventoryfs("unmount", mount.path)
    assert result.returncode == 1 and "tmpfs" in result.stderr
    assert (mount.path / "file").read_text() == "mine"
    subprocess.run(["umount", mount.path], check=True)
    assert os.listdir(mount.data), "ours is below it"


def test_a_dead_mount_stays_when_the_new_one_cannot_be_made(lab, csv_inventory):
    mount = lab.mount(csv_inventory.manifest_path)
    mount.kill()
    result = lab.inventoryfs("mount", lab.folder / "missing.json", mount.path)
    assert result.returncode == 1 and "missing.json" in result.stderr
    assert mount.is_mounted()


def test_clearing_a_dead_mount_is_logged(lab, csv_inventory):
    lab.mount(csv_inventory.manifest_path).kill()
    second = lab.mount(csv_inventory.manifest_path)
    second.logged("whose process has ended")


# Processes that do not answer, and mounts that are held elsewhere

@pytest.mark.parametrize("in_use", [False, True], ids=["idle", "in_use"])
def test_a_stopped_process_keeps_nobody(lab, csv_inventory, in_use):
    mount = lab.mount(csv_inventory.manifest_path, foreground=False)
    holder = open(mount.path / "manifest.json", "rb") if in_use else contextlib.nullcontext()
    mount.signal(signal.SIGSTOP)
    try:
        result = lab.inventoryfs("mount", csv_inventory.manifest_path, mount.path)
        assert result.returncode == 1
        assert "does not answer" in result.stderr and f"unmount --lazy {mount.path}" in result.stderr
        result = lab.inventoryfs("unmount", mount.path)
        assert result.returncode == 1
        assert not mount.is_mounted()
        assert f"process {mount.pid}" in result.stderr and f"kill -CONT {mount.pid}" in result.stderr
    finally:
        mount.signal(signal.SIGCONT)
        with holder:
            pass
    mount.wait_for_end()


def test_a_stopped_process_can_be_left_behind_lazily(lab, csv_inventory):
    mount = lab.mount(csv_inventory.manifest_path, foreground=False)
    mount.signal(signal.SIGSTOP)
    try:
        result = lab.inventoryfs("unmount", "--lazy", mount.path)
        assert result.returncode == 0, result.stderr
        assert not mount.is_mounted()
    finally:
        mount.signal(signal.SIGCONT)
    mount.wait_for_end()


def test_a_mount_that_a_bind_mount_keeps_is_said_to_be_kept(lab, csv_inventory):
    mount = lab.mount(csv_inventory.manifest_path, foreground=False)
    bound = lab.mountpoint("bound")
    subprocess.run(["mount", "--bind", mount.path, bound], check=True)
    result = lab.inventoryfs("unmount", mount.path)
    assert result.returncode == 1
    assert str(bound) in result.stderr and f"kill {mount.pid}" in result.stderr
    assert os.listdir(bound / "data"), "it is still served there"
    mount.signal(signal.SIGTERM)
    mount.wait_for_end()
    subprocess.run(["umount", bound], check=True)


# A new mount namespace keeps the mounts of all other tests, too.
@pytest.mark.alone
def test_a_mount_that_another_namespace_keeps_is_said_to_be_kept(lab, csv_inventory):
    mount = lab.mount(csv_inventory.manifest_path, foreground=False)
    holder = lab.spawn("unshare", "--mount", "--propagation", "private", "sleep", "1000")
    try:
        wait_until(lambda: os.readlink(f"/proc/{holder.pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt")
                   and processes.command_line(holder.pid).startswith("sleep"), "a namespace of its own")
        result = lab.inventoryfs("unmount", mount.path)
        assert result.returncode == 1
        assert f"namespace of process {holder.pid} (sleep)" in result.stderr
        # The way out that the message names.
        assert f"kill {mount.pid}" in result.stderr
        os.kill(mount.pid, signal.SIGTERM)
        mount.wait_for_end()
    finally:
        holder.kill()
        holder.wait(20)


def test_a_process_of_another_pid_namespace_is_not_mistaken(lab, csv_inventory):
    """There the daemon's pid is 1 or a few more, which here are processes that have nothing to do with it."""
    path = lab.mountpoint()
    inner = lab.spawn("unshare", "--pid", "--fork", "--kill-child", lab.binary, "mount", "--foreground",
                      csv_inventory.manifest_path, path)
    try:
        wait_until(lambda: processes.is_mounted(path), "the mount")
        assert wait_until(lambda: os.getxattr(path, "user.inventoryfs.pid"), "an answer") == b"1"
        result = lab.inventoryfs("unmount", path)
        assert result.returncode == 0, result.stderr
        inner.wait(20)
    finally:
        inner.kill()
        inner.wait(20)


# The automounter

@pytest.fixture
def automounter(lab):
    """Starts a real automount(8) over maps of ours, in a mount namespace of its own."""
    started = []
    if not shutil.which("automount") and os.path.isdir("/run/systemd/system"):
        pytest.skip("automount(8) is not installed, and Tests/run does not, because systemd would start it")

    def start(master):
        folder = lab.folder / "autofs"
        folder.mkdir()
        (folder / "auto.master").write_text(master)
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "automount", "--foreground", "--dont-check-daemon",
                 "--debug", "--pid-file", folder / "pid", folder / "auto.master"],
                # The kernel lets the automounter's process group look without waiting for a mount.
                env=lab.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)


def in_namespace_of(process, *command, seconds=30):
    return subprocess.run(["nsenter", "--mount", f"--target={process.pid}", *map(str, command)], timeout=seconds,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.alone
@pytest.mark.parametrize("kind", ["indirect", "direct"])
def test_the_automounter_mounts_it(lab, csv_inventory, automounter, kind):
    top = lab.folder / "auto"
    top.mkdir()
    options = "-fstype=fuse,allow_other"
    source = f":{lab.binary}\\#{csv_inventory.manifest_path}"
    folder = lab.folder / "maps"
    folder.mkdir()
    if kind == "indirect":
        (folder / "map").write_text(f"inv {options} {source}\n")
        process = automounter(f"{top} {folder}/map\n")
    else:
        (top / "inv").mkdir()
        (folder / "map").write_text(f"{top}/inv {options} {source}\n")
        process = automounter(f"/- {folder}/map\n")
    log = lab.folder / "autofs" / "log"
    wait_until(lambda: "st_ready()" in log.read_text(errors="replace"), "automount to be ready")
    result = in_namespace_of(process, "ls", top / "inv" / "data")
    assert sorted(result.stdout.split()) == sorted(csv_inventory.chunks), f"{result.stdout}\n{log.read_text(errors='replace')}"


# Direct I/O

def test_a_reader_with_o_direct_does_not_notice_how_it_is_served(lab, seaweedfs, csv_inventory):
    mount = lab.mount(csv_inventory.url, endpoint=seaweedfs.endpoint)
    name, path = next(iter(csv_inventory.chunks.items()))
    expected = pathlib.Path(path).read_bytes()

    def read(size):
        return subprocess.run(["dd", f"if={mount.data / name}", "iflag=direct", f"bs={size}", "status=none"],
                              stdout=subprocess.PIPE, check=True).stdout

    assert read(100_000) == expected
    assert (mount.data / name).read_bytes() == expected
    wait_until(lambda: mount.xattr("user.inventoryfs.read_path", name) == "passthrough", "passthrough to be possible")
    for size in (1000, 4096, 100_001):
        assert read(size) == expected
    with open(mount.data / name, "rb") as held:
        assert held.read(1000) == expected[:1000]
        # The kernel reads it by itself now, and has no second way at the same time.
        assert read(100_001) == expected
        assert held.read() == expected[1000:]

"""Finding and ending what a test started.

A daemon that put itself in the background is nobody's child any more, and a hung read cannot be left by a signal to
Python. So every process that the tests start carries a mark in its environment, by which it is found in /proc and
ended by pid, and every mount lies under one scratch folder, by which it is found in /proc/self/mountinfo.
"""

import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import time

MARK = "INVENTORYFS_TEST_MARK"
# Before a server's command: the kernel kills it when this test run ends, even by kill -9.
ENDS_WITH_US = ["setpriv", "--pdeathsig", "KILL"]


def wait_until(condition, what, seconds=60.0, poll_seconds=0.01):
    """The first true value of `condition()`; fails the test after `seconds`, which are for what hangs."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain for: {what}"
        time.sleep(poll_seconds)
    return value


def marked_processes(mark):
    """The pids of the living processes with this mark, zombies left out."""
    wanted = f"{MARK}={mark}".encode()
    pids = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            environment = pathlib.Path(entry.path, "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if wanted in environment and int(entry.name) != os.getpid():
            pids.append(int(entry.name))
    return pids


def is_alive(pid):
    """Whether the process runs: one that ended and was not waited for does not.

    The first of its threads may have ended while others go on, and have its files, and their locks, still open.
    """
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
        return stat.rsplit(")", 1)[1].split()[0] not in "ZX" or len(os.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        return False


def open_files(pid):
    """(path, link in /proc) of each file that the process has open; none of a process that ended.

    A process that runs opens and closes them meanwhile: one that is gone before it can be asked is left out, and the
    link of any other may be gone by the time it is used.
    """
    descriptors = f"/proc/{pid}/fd"
    try:
        names = os.listdir(descriptors)
    except OSError:
        return
    for name in names:
        try:
            yield os.readlink(f"{descriptors}/{name}"), f"{descriptors}/{name}"
        except OSError:
            continue


def kill(pid, number=signal.SIGKILL):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def mounts_under(folder):
    """Mountpoints in and under the folder, the innermost first."""
    found = []
    with open("/proc/self/mountinfo") as lines:
        for line in lines:
            path = re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), line.split()[4])
            if pathlib.PurePath(path).is_relative_to(folder):
                found.append(path)
    return sorted(found, reverse=True)


def is_mounted(path):
    """Reads the kernel's table and does not touch the mountpoint: that of a hung daemon would hang us too."""
    return str(path) in mounts_under(path)


def unmount_lazily(path):
    command = ["umount", "-l", path] if os.geteuid() == 0 else ["fusermount3", "-uz", path]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30)


def free_port(also_above=0):
    """A port of the loopback that nobody listens on; with `also_above`, the port that much higher is free too.

    None of those that the kernel gives to whoever connects (from 32768 on, unless told otherwise): one of them could be
    taken before it is listened on, or be given to the very client that connects to it. Of a run's processes no two get
    the same one: of the last two digits, each has some to itself (pytest-xdist names its workers gw0, gw1, ...).
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw-1").removeprefix("gw")) + 1
    while True:
        port = random.SystemRandom().randrange(100, (32_000 - also_above) // 100) * 100 + worker % 100
        try:
            for number in {port, port + also_above}:
                with socket.socket() as free:
                    free.bind(("127.0.0.1", number))
        except OSError:
            continue
        return port


def command_line(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return "(ended)"

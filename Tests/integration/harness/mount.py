"""One mounted manifest: its mountpoint, its daemon, its cache folder."""

import os
import pathlib
import re
import signal
import subprocess
import time

from . import processes
from .disk_usage import allocated_bytes
from .processes import wait_until


class Mount:
    def __init__(self, lab, path, cache, user=None):
        self.lab, self.path, self.cache, self.user = lab, path, cache, user
        self.data = path / "data"
        self.process = None  # of a mount in the foreground
        self.pid = None
        self.log_path = lab.folder / f"{path.name}.{len(lab.mounts)}.log"
        self.was_killed = False
        self.ready_at = 0.0

    def start(self, command, environment, foreground):
        with open(self.log_path, "wb") as log:
            if not foreground:
                result = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                        timeout=60)
                assert result.returncode == 0, f"{command} exited {result.returncode}:\n{self.log()}"
                self.pid = int(self.xattr("user.inventoryfs.pid"))
                return
            self.process = subprocess.Popen([*command, "--foreground"], env=environment, stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log)
        self.pid = self.process.pid
        wait_until(self._is_ready, "the mount to appear")
        self.ready_at = time.monotonic()

    def _is_ready(self):
        assert self.process.poll() is None, \
            f"{self.process.args} exited {self.process.returncode}:\n{self.log()}"
        # Being in the table is not enough: a dead mountpoint of the process before may still be there. And another
        # user's mount is closed to root.
        if not processes.is_mounted(self.path):
            return False
        try:
            # Not a listing: the kernel may still have that of a dead mount below.
            return int(self.xattr("user.inventoryfs.pid")) == self.pid
        except (OSError, AssertionError):
            return False

    def log(self):
        return self.log_path.read_text(errors="replace")

    def logged(self, text, seconds=60):
        """The log's lines with this text, once there is one: what an event changes may be seen before its line."""
        return wait_until(lambda: [line for line in self.log().splitlines() if text in line],
                          f"the log to say: {text}", seconds)

    def xattr(self, name, chunk=None):
        path = self.path if chunk is None else self.data / chunk
        if self.user is None:
            return os.getxattr(path, name).decode()
        # Without --allow-other a mount is closed even to root.
        result = self.lab.run("getfattr", "--only-values", "--absolute-names", "-n", name, path, user=self.user)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def cached_bytes(self, chunk):
        return int(self.xattr("user.inventoryfs.cached_bytes", chunk))

    def allocated_bytes(self):
        """What the cache takes on the disk, files included that are deleted but open in the daemon."""
        return allocated_bytes(self.cache, self.pid)

    def memory_bytes(self, field):
        """VmRSS or VmHWM (its highest so far) of the daemon."""
        text = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)[1]) * 1024

    def is_mounted(self):
        return processes.is_mounted(self.path)

    def unmount(self, *options):
        """`inventoryfs unmount`, and the daemon's end, which a new mount on the same cache has to wait for."""
        binary = self.lab.binary if self.user is None else self.lab.binary_for_everybody()
        while True:
            result = self.lab.run(binary, "unmount", self.path, *options, user=self.user)
            # A daemon in the foreground has itself a look at its mount when we see it already, and is using it then.
            if "is in use" not in result.stderr or time.monotonic() > self.ready_at + 2:
                break
        assert result.returncode == 0, result.stderr
        self.wait_for_end()

    def wait_for_end(self, seconds=60):
        wait_until(lambda: not processes.is_alive(self.pid), f"daemon {self.pid} to end", seconds)
        if self.process:
            self.process.wait()

    def signal(self, number):
        os.kill(self.pid, number)
        if number == signal.SIGSTOP:
            # One thread takes the signal, and the others may serve until it has.
            wait_until(lambda: all(thread.read_text().rsplit(")", 1)[1].split()[0] == "T"
                                   for thread in pathlib.Path(f"/proc/{self.pid}/task").glob("*/stat")), "all to stop")

    def kill(self):
        """kill -9: the mountpoint stays behind dead."""
        self.was_killed = True
        self.signal(signal.SIGKILL)
        self.wait_for_end()

    def close(self):
        problems = []
        try:
            if self.is_mounted() and self.pid is not None and processes.is_alive(self.pid):
                self.unmount()
        except (AssertionError, OSError, subprocess.SubprocessError) as error:
            problems.append(f"{self.path} did not unmount cleanly: {error}")
        if self.was_killed and self.is_mounted():
            processes.unmount_lazily(self.path)
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait(20)
        return problems

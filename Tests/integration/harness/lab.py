"""One test's own folder, processes and mounts.

`Lab` starts everything that a test needs marked and under its folder, so `close()` can end all of it, whatever state
the test left it in, and says what should not have been there any more. `abort()` does the rough half of that from
the watchdog's thread: with the daemon gone a hung read fails instead of hanging, so the test fails as others do.
"""

import os
import pathlib
import shutil
import stat
import subprocess

import pytest

from . import processes
from .inventory import REPOSITORY
from .mount import Mount
from .origin import Origin
from .processes import MARK
from .seaweedfs import ACCESS_KEY, SECRET_KEY

BINARIES = pathlib.Path(os.environ.get("INVENTORYFS_BINARIES") or REPOSITORY / ".build" / "release")
INVENTORYFS = BINARIES / "inventoryfs"
# Of another build, where only inventoryfs is to be looked at (Tests/sanitize).
S3_ORIGIN = pathlib.Path(os.environ.get("INVENTORYFS_ORIGIN_BINARY") or BINARIES / "s3-origin")
NOBODY = 65534
SANITIZER_OPTIONS = ("TSAN_OPTIONS", "ASAN_OPTIONS")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class Lab:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir()
        self.folder.chmod(0o755)
        # Its own folder's path: another run of the same test at the same time must not be taken for this one.
        self.mark = str(self.folder)
        self.binary = INVENTORYFS
        self.mounts, self.origins = [], []
        self.environment = {
            "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(self.folder / "home"),
            "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_REGION": "us-east-1",
            # Where the tests run on EC2, its role is not what they are about.
            "AWS_EC2_METADATA_DISABLED": "true",
            MARK: self.mark,
        } | self.sanitizer_environment()
        (self.folder / "home").mkdir()

    # Under a sanitizer (Tests/sanitize)

    def sanitizer_environment(self):
        """So that what a process reports is known to be this test's: each test has a folder of its own for that."""
        self.reports = None
        if folder := os.environ.get("INVENTORYFS_SANITIZER_REPORTS"):
            self.reports = pathlib.Path(folder) / self.folder.name
            self.reports.mkdir()
            # A mount of another user's writes there too.
            self.reports.chmod(0o1777)
        environment = {name: os.environ[name] for name in ("SWIFT_BACKTRACE",) if name in os.environ}
        for name in SANITIZER_OPTIONS:
            if name in os.environ:
                # Of an option that is given twice the last counts.
                own = f" log_path={self.reports}/report" if self.reports else ""
                environment[name] = os.environ[name] + own
        return environment

    def sanitizer_reports(self):
        """What the processes of the test reported. After `close()`, because some only do when they end."""
        if self.reports is None:
            return []
        texts = [report.read_text(errors="replace")[:8000] for report in sorted(self.reports.iterdir())]
        shutil.rmtree(self.reports)
        return texts

    # Starting things

    def run(self, *arguments, timeout=60, user=None, **environment):
        """Runs a command to its end; stdout and stderr are text. A key given as None is left out of the environment.

        Its output goes to files and not to a pipe: a daemon that kept the pipe open would keep us reading from it.
        """
        chosen = {name: value for name, value in {**self.environment, **environment}.items() if value is not None}
        with open(self.folder / "stdout", "w+") as out, open(self.folder / "stderr", "w+") as errors:
            result = subprocess.run(
                [*as_user(user), *map(str, arguments)], env=chosen, stdin=subprocess.DEVNULL, stdout=out,
                stderr=errors, timeout=timeout, cwd=self.folder)
            out.seek(0)
            errors.seek(0)
            return subprocess.CompletedProcess(result.args, result.returncode, out.read(), errors.read())

    def spawn(self, *arguments, **options):
        return subprocess.Popen(list(map(str, arguments)), env=self.environment, cwd=self.folder,
                                stdin=subprocess.DEVNULL, **options)

    def inventoryfs(self, *arguments, **options):
        return self.run(self.binary, *arguments, **options)

    def mountpoint(self, name="mnt"):
        path = self.folder / name
        path.mkdir(exist_ok=True)
        return path

    def mount(self, source, *options, endpoint=None, cache="cache", at="mnt", foreground=True, user=None,
              binary=None, **environment):
        """Mounts and waits until the mount answers. In the background `mount` itself has to wait for that."""
        mount = Mount(self, self.mountpoint(at), self.folder / cache, user)
        command = [binary or self.binary, "mount", source, mount.path, "--cache-dir", mount.cache, *options]
        if endpoint:
            command += ["--endpoint-url", endpoint]
        self.mounts.append(mount)
        if user is not None:
            mount.cache.mkdir(exist_ok=True)
            for path in (mount.path, mount.cache, self.folder / "home"):
                os.chown(path, user, user)
        mount.start([*as_user(user), *map(str, command)], {**self.environment, **environment}, foreground)
        return mount

    def origin(self, root, *options, fault_plan=None):
        origin = Origin(self, S3_ORIGIN, root, fault_plan, options)
        self.origins.append(origin)
        return origin

    def binary_for_everybody(self):
        """The executable where any user may run it: a checkout below /root is closed to them."""
        copy = self.folder / "inventoryfs"
        if not copy.exists():
            shutil.copy(self.binary, copy)
            copy.chmod(0o755)
        return copy

    # Ending them

    def abort(self):
        for pid in processes.marked_processes(self.mark):
            processes.kill(pid)
        for path in processes.mounts_under(self.folder):
            processes.unmount_lazily(path)

    def close(self):
        """Ends all and removes the folder; sentences on what a correct file system would not have left."""
        problems = []
        # The last first: where one was killed, the next may be mounted over what it left.
        for mount in reversed(self.mounts):
            problems += mount.close()
        for origin in self.origins:
            origin.close()
        for path in processes.mounts_under(self.folder):
            problems.append(f"left mounted: {path}")
        for pid in processes.marked_processes(self.mark):
            problems.append(f"left running: {pid} {processes.command_line(pid)}")
        self.abort()
        shutil.rmtree(self.folder, onerror=make_writable_and_retry)
        return problems


def as_user(user):
    if user is None:
        return []
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]


def make_writable_and_retry(function, path, _):
    os.chmod(os.path.dirname(path), stat.S_IRWXU)
    function(path)

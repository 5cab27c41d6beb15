"""What is compared: local files, and the programs that mount a bucket; one class each.

A peer is started afresh for each measurement, with an empty cache of its own, and has ended before the next starts:
nothing that one run fetched helps another. Daemons stay in the foreground, so that this process is their parent,
knows their id, and ends none but them.
"""

import os
import pathlib
import re
import shutil
import subprocess
import time

BUCKET = "inventory-bucket"
PREFIX = "inv/src-bucket"
DATE = "2026-11-22T01-00Z"


class PeerError(Exception):
    """The peer could not be mounted, or not be ended."""


class Setting:
    """What all peers of a run share: the origin, the credentials, the programs, and a folder to work in."""

    def __init__(self, endpoint, inventory, scratch, inventoryfs, environment):
        self.endpoint = endpoint
        self.inventory = pathlib.Path(inventory)
        self.scratch = pathlib.Path(scratch)
        self.inventoryfs = inventoryfs
        self.environment = environment


class LocalFiles:
    """The same files on the local disk: what no mount can beat, and the answer that each must give."""

    name = "local files"
    options = ""

    def __init__(self, setting, configuration):
        self.data = setting.inventory / BUCKET / PREFIX / configuration / "data"

    @staticmethod
    def version(setting):
        return ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def peak_rss_in_bytes(self):
        return None


class Mount:
    """A program that mounts the folder of one inventory configuration; `command` and `version` say what differs."""

    name = options = ""
    mount_timeout_seconds = 30
    end_timeout_seconds = 15

    def __init__(self, setting, configuration):
        self.setting = setting
        self.configuration = configuration
        self.mountpoint = setting.scratch / "mount"
        self.cache = setting.scratch / "cache"
        self.log = setting.scratch / "daemon.log"
        self.data = self.mountpoint / "data"
        self.daemon = None

    def command(self):
        raise NotImplementedError

    def __enter__(self):
        shutil.rmtree(self.cache, ignore_errors=True)
        self.cache.mkdir()
        self.mountpoint.mkdir(exist_ok=True)
        with open(self.log, "wb") as log:
            self.daemon = subprocess.Popen(
                self.command(), env=self.setting.environment, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True)
        try:
            self._wait_for_mount()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, _, error, __):
        self._end()
        if isinstance(error, PeerError):
            raise PeerError(f"{error}; {self._last_words()}") from error

    def peak_rss_in_bytes(self):
        """The kernel's own account of the most the daemon has had in memory."""
        status = pathlib.Path(f"/proc/{self.daemon.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        return int(found[1]) * 1024 if found else None

    def _wait_for_mount(self):
        deadline = time.monotonic() + self.mount_timeout_seconds
        while not os.path.ismount(self.mountpoint):
            if self.daemon.poll() is not None or time.monotonic() > deadline:
                raise PeerError(f"{self.name} did not mount; {self._last_words()}")
            time.sleep(0.01)

    def _last_words(self):
        return f"its log ends: {self.log.read_text(errors='replace')[-300:].strip()}"

    def _end(self):
        """A mount that is in use for a moment longer is asked again; one that hangs loses its daemon."""
        deadline = time.monotonic() + self.end_timeout_seconds
        while os.path.ismount(self.mountpoint) and time.monotonic() < deadline:
            if not self._unmount():
                time.sleep(0.1)
        if self.daemon.poll() is None and os.path.ismount(self.mountpoint):
            self.daemon.kill()
            self._unmount("-z")
        try:
            self.daemon.wait(self.end_timeout_seconds)
        except subprocess.TimeoutExpired:
            self.daemon.kill()
            self.daemon.wait()

    def _unmount(self, *options):
        return subprocess.run(
            ["fusermount3", "-u", *options, self.mountpoint], stderr=subprocess.DEVNULL).returncode == 0


class InventoryFS(Mount):
    name = "inventoryfs"
    options = "(defaults)"

    @staticmethod
    def version(setting):
        return first_line([setting.inventoryfs, "--version"], r"[\d.]+")

    def command(self):
        manifest = f"s3://{BUCKET}/{PREFIX}/{self.configuration}/{DATE}/manifest.json"
        return [
            self.setting.inventoryfs, "mount", manifest, self.mountpoint, "--endpoint-url", self.setting.endpoint,
            "--cache-dir", self.cache, "--foreground",
        ]


class Rclone(Mount):
    """With its cache on disk, and without a HEAD request for each file's time, as its manual advises for S3."""

    name = "rclone"
    options = "--read-only --vfs-cache-mode full --use-server-modtime"

    @staticmethod
    def version(setting):
        return first_line(["rclone", "version"], r"[\d.]+")

    def command(self):
        # A remote made of environment variables, so that no configuration of the user's is read.
        remote = {
            "TYPE": "s3", "PROVIDER": "Other", "ENDPOINT": self.setting.endpoint, "ENV_AUTH": "true",
            "FORCE_PATH_STYLE": "true", "LIST_VERSION": "2", "REGION": self.setting.environment["AWS_REGION"],
        }
        variables = [f"RCLONE_CONFIG_ORIGIN_{name}={value}" for name, value in remote.items()]
        source = f"origin:{BUCKET}/{PREFIX}/{self.configuration}"
        return [
            "env", *variables, "rclone", "mount", source, self.mountpoint, "--config", "/dev/null",
            "--cache-dir", self.cache, *self.options.split(),
        ]


class RcloneStreams(Rclone):
    """Several requests at once for one file; the read-ahead gives them all something to do."""

    name = "rclone, 8 streams"
    options = f"{Rclone.options} --vfs-read-chunk-streams 8 --vfs-read-chunk-size 8M --vfs-read-ahead 128M"


class S3fs(Mount):
    name = "s3fs"
    options = "-o ro,use_cache=DIR,parallel_count=8,multipart_size=8"

    @staticmethod
    def version(setting):
        return first_line(["s3fs", "--version"], r"(?<=V)[\d.]+")

    def command(self):
        password = self.setting.scratch / "s3fs-password"
        environment = self.setting.environment
        password.touch(mode=0o600)
        password.write_text(f"{environment['AWS_ACCESS_KEY_ID']}:{environment['AWS_SECRET_ACCESS_KEY']}\n")
        origin = f"url={self.setting.endpoint},passwd_file={password},use_path_request_style,listobjectsv2"
        # Without it, s3fs from 1.91 on sees no folder that is not an object too; before, it always did.
        help_text = subprocess.run(["s3fs", "--help"], capture_output=True, text=True).stdout
        if re.search(r"^\s*compat_dir\b", help_text, re.MULTILINE):
            origin += ",compat_dir"
        options = self.options.replace("DIR", str(self.cache)).split()
        return ["s3fs", f"{BUCKET}:/{PREFIX}/{self.configuration}", self.mountpoint, "-f", "-o", origin, *options]


def first_line(command, pattern):
    """What of a program's first line matches."""
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    found = re.search(pattern, output.splitlines()[0])
    return found[0] if found else "unknown"


PEERS = [LocalFiles, InventoryFS, Rclone, RcloneStreams, S3fs]

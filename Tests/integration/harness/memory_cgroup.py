"""A control group with a limit of memory, of whichever version the machine has.

v2 where the memory controller is in it; else v1. See Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
RLIMIT_AS would be no substitute: most of what a process maps, thread stacks and malloc's arenas, it never touches.
"""

import os
import pathlib
import re


class MemoryCgroup:
    """Made below this process's own group. `why_not()` says why there can be none."""

    def __init__(self, limit_bytes):
        self.version, parent = find_parent()
        self.folder = parent / f"inventoryfs-tests-{os.getpid()}"
        self.folder.mkdir()
        self._write("memory.max" if self.version == 2 else "memory.limit_in_bytes", limit_bytes)
        if self.version == 2 and (self.folder / "memory.swap.max").exists():
            self._write("memory.swap.max", 0)
        elif self.version == 1 and (self.folder / "memory.memsw.limit_in_bytes").exists():
            self._write("memory.memsw.limit_in_bytes", limit_bytes)

    def wrapper(self, path, binary):
        """A script that runs the binary in this group, as the same process."""
        path.write_text(f'#!/bin/sh\necho $$ >"{self.folder}/cgroup.procs" || exit 1\nexec "{binary}" "$@"\n')
        path.chmod(0o755)
        return path

    def peak_bytes(self):
        return int(self._read("memory.peak" if self.version == 2 else "memory.max_usage_in_bytes"))

    def anonymous_bytes(self):
        """What cannot be dropped and read again."""
        return self._field("memory.stat", "anon" if self.version == 2 else "rss")

    def kills(self):
        return self._field("memory.events" if self.version == 2 else "memory.oom_control", "oom_kill")

    def pids(self):
        return [int(line) for line in self._read("cgroup.procs").split()]

    def close(self):
        self.folder.rmdir()

    def _read(self, name):
        return (self.folder / name).read_text()

    def _field(self, name, field):
        return int(re.search(rf"^{field} (\d+)$", self._read(name), re.MULTILINE)[1])

    def _write(self, name, value):
        (self.folder / name).write_text(str(value))


def find_parent():
    """(version, folder) of a group that may have a child with a limit of memory; raises OSError with the reason."""
    groups = dict(line.split(":", 2)[1:] for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines())
    mounts = [line.split() for line in pathlib.Path("/proc/self/mounts").read_text().splitlines()]
    for _, point, kind, options, *_ in mounts:
        if kind == "cgroup2":
            # A group that has processes itself cannot give its children controllers; the topmost can.
            top = pathlib.Path(point)
            if "memory" in (top / "cgroup.controllers").read_text().split():
                if "memory" not in (top / "cgroup.subtree_control").read_text().split():
                    (top / "cgroup.subtree_control").write_text("+memory")
                return 2, top
        if kind == "cgroup" and "memory" in options.split(","):
            return 1, pathlib.Path(point + groups.get("memory", "/"))
    raise OSError("there is no memory controller")


def why_not():
    """Why no group can be made; None if it can."""
    try:
        group = MemoryCgroup(64 << 20)
    except OSError as error:
        return str(error)
    group.close()
    return None

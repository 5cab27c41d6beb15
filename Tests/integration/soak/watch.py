"""The daemon's memory, descriptors, threads and disk, sampled while a soak runs, and the bounds that hold for them.

The bounds are the documented ones (README, "Memory" and "Cache"; docs/ARCHITECTURE.md, "Bounds").
"""

import dataclasses
import os
import pathlib
import threading
import time

from harness.disk_usage import allocated_bytes

MIB = 1 << 20
DISK_SECONDS, PROCESS_SECONDS = 0.05, 1.0
# It is answered from memory by a thread of its own; on a machine that has other things to do.
STATUS_SECONDS = 10


@dataclasses.dataclass
class Bounds:
    memory_bytes: int
    descriptors: int
    threads: int
    cache_bytes: int
    call_seconds: float

    @classmethod
    def documented(cls, connections, chunks, cache_bytes, read_timeout_seconds):
        return cls(
            # MemoryPlan; the tenth, which test_memory.py allows too, is for libraries of another size.
            memory_bytes=int(1.1 * (35 * MIB + connections * ((256 + 32) << 10) + 6 * MIB)),
            # Two for each chunk, one for each connection, and the process's own.
            descriptors=2 * chunks + connections + 32,
            # 9 of its own, and libdispatch's few.
            threads=9 + 15,
            cache_bytes=cache_bytes,
            # The timeout is of one request of the kernel. A large read is several, one after the other; where the store
            # is slow and yet in time with each it takes longer, but not much with the faults that there are here.
            call_seconds=read_timeout_seconds + 15)


class Watch(threading.Thread):
    """Samples until stopped. `current` gives the mount of the moment, or None between two."""

    def __init__(self, current, cache, bounds, slots):
        super().__init__(daemon=True)
        self.current, self.cache, self.bounds, self.slots = current, cache, bounds, slots
        self.highest = {"memory_bytes": 0, "descriptors": 0, "threads": 0, "cache_bytes": 0}
        self.samples = {"process": 0, "cache": 0}
        self.slowest_status_seconds = 0.0
        self.problems = []
        self.stopped = threading.Event()
        self.asked_at = None

    def run(self):
        status = threading.Thread(target=self.ask_for_status, daemon=True)
        status.start()
        process_due = 0.0
        while not self.stopped.wait(DISK_SECONDS):
            self.samples["cache"] += 1
            self.see("cache_bytes", self.allocated_bytes(), "allocated by the cache")
            if time.monotonic() >= process_due:
                process_due = time.monotonic() + PROCESS_SECONDS
                self.sample_process()
                self.look_for_stuck_readers()
                self.look_for_a_stuck_daemon()
        status.join(STATUS_SECONDS)

    def allocated_bytes(self):
        mount = self.current()
        return allocated_bytes(self.cache, None if mount is None else mount.pid)

    def see(self, name, value, what):
        if value > self.highest[name]:
            self.highest[name] = value
            if value > getattr(self.bounds, name):
                self.problem(name, f"{value} {what}, over the bound of {getattr(self.bounds, name)}")

    def problem(self, subject, text):
        """The latest of each subject: a value that climbs would otherwise fill the report."""
        self.problems = [entry for entry in self.problems if entry[0] != subject] + [(subject, text)]

    def sample_process(self):
        mount = self.current()
        try:
            status = pathlib.Path(f"/proc/{mount.pid}/status").read_text()
            fields = dict(line.split(":", 1) for line in status.splitlines())
            descriptors = len(os.listdir(f"/proc/{mount.pid}/fd"))
            # The highest so far, which no sample misses.
            memory = int(fields["VmHWM"].split()[0]) << 10
            threads = int(fields["Threads"])
        except (OSError, KeyError, AttributeError):
            return  # no daemon at the moment, or it ends
        self.samples["process"] += 1
        self.see("memory_bytes", memory, "bytes of resident memory (VmHWM)")
        self.see("descriptors", descriptors, "file descriptors")
        self.see("threads", threads, "threads")

    def look_for_stuck_readers(self):
        for number, slot in enumerate(self.slots):
            waiting = slot.waiting()
            if waiting and waiting[0] > self.bounds.call_seconds:
                self.problem(f"reader {number}", f"reader {number} waits since {waiting[0]:.0f} s: {waiting[1]}")

    # Status: whether somebody answers at all, whatever the reads do.

    def ask_for_status(self):
        while not self.stopped.wait(0.5):
            mount = self.current()
            if mount is None:
                continue
            self.asked_at = time.monotonic()
            try:
                os.getxattr(mount.path, "user.inventoryfs.pid")
            except OSError:
                pass  # between two mounts; that one answers at the end is asserted there
            self.slowest_status_seconds = max(self.slowest_status_seconds, time.monotonic() - self.asked_at)
            self.asked_at = None

    def look_for_a_stuck_daemon(self):
        asked_at = self.asked_at
        if asked_at and time.monotonic() - asked_at > STATUS_SECONDS:
            self.problem("status", f"no answer for user.inventoryfs.pid since {time.monotonic() - asked_at:.0f} s")

    def stop(self):
        self.stopped.set()
        self.join(2 * STATUS_SECONDS)

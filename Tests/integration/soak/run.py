"""One soak from the first mount to the last unmount.

    mount -> readers and faults, restarts in between -> faults off, readers end -> every chunk is right
          -> everything is at rest -> unmount -> mount with the same cache -> every chunk is right -> unmount

`Soak.run` returns the figures (report.py), whose "problems" are sentences; none means that all that is asserted held.
"""

import dataclasses
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

from harness import processes
from harness.processes import ENDS_WITH_US

from . import board as boards
from . import chunks, faults, report
from .watch import Bounds, Watch

MIB = 1 << 20
READER = pathlib.Path(__file__).with_name("reader.py")
CONNECTIONS = 32
RESTARTS = ("kill -9", "SIGTERM", "unmount")
REST_SECONDS = 60
GAUGES_OF_WHAT_IS_UNDER_WAY = ("open_files", "waiting", "parts_in_flight", "requests_in_flight", "pinned_bytes")
CACHE_FILES = re.compile(r"inventoryfs-cache/(CACHEDIR\.TAG|lock|manifest|chunks-v\d+-crc32c?/[0-9a-f]+\.(data|index))")


@dataclasses.dataclass
class Options:
    seconds: float
    seed: int
    readers: int = 16
    cache_mib: int = 32
    read_timeout_seconds: int = 20
    seconds_between_restarts: float = 30
    verify: str = "background"
    no_faults: bool = False
    # To see the soak fail. The first is the probability that an answer has a wrong bit.
    wrong_bytes: float = 0.0
    memory_mib: int = None
    descriptors: int = None
    cache_bound_mib: int = None

    def arguments(self):
        """Those of Tests/soak that play the same again."""
        words = [f"--minutes {self.seconds / 60:g}"]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "seed" or field.name != "seconds" and value != field.default:
                words.append("--" + field.name.replace("_", "-") + ("" if value is True else f" {value}"))
        return " ".join(words)


class Failed(Exception):
    """There is no point in going on."""


class Soak:
    def __init__(self, lab, options, say=lambda _: None, is_enough=None):
        """`is_enough` is asked with the problems so far, and true ends it before its time."""
        self.lab, self.options, self.say = lab, options, say
        self.is_enough = lambda: is_enough is not None and is_enough(self.noticed())
        self.problems = []
        self.restarts = dict.fromkeys(RESTARTS, 0)
        self.timeline = []
        self.mount = None
        self.began = time.monotonic()
        self.inventory, columns = chunks.make(lab.folder, options.seed)
        self.bounds = Bounds.documented(CONNECTIONS, len(self.inventory.keys), options.cache_mib * MIB,
                                        options.read_timeout_seconds)
        for name, value in (("memory_bytes", options.memory_mib), ("cache_bytes", options.cache_bound_mib)):
            if value is not None:
                setattr(self.bounds, name, value * MIB)
        if options.descriptors is not None:
            self.bounds.descriptors = options.descriptors
        self.arguments = self.daemon_options()
        if "--read-timeout" not in self.arguments:
            # Six attempts, each given up after 20 s without progress, and what is between.
            self.bounds.call_seconds = 200
        self.board = boards.Board(lab.folder / "board", options.readers + 1)
        self.slots = [self.board.slot(number) for number in range(options.readers)]
        self.settings = lab.folder / "settings.json"
        self.settings.write_text(json.dumps({
            "data": str(lab.mountpoint() / "data"), "folder": str(lab.folder), "board": str(lab.folder / "board"),
            "slow_seconds": options.read_timeout_seconds + 1, "seed": options.seed, "columns": columns,
            "copies": {name: str(path) for name, path in self.inventory.chunks.items()}}))
        self.rng = random.Random(f"{options.seed}/conductor")

    def daemon_options(self):
        """All that the daemon is told beside source, mountpoint, cache and endpoint."""
        options = ["--cache-size", f"{self.options.cache_mib}MiB", "--max-connections", CONNECTIONS]
        if "--read-timeout" in self.lab.inventoryfs("mount", "--help").stdout:
            options += ["--read-timeout", self.options.read_timeout_seconds]
        if self.options.verify != "background":
            options += ["--verify", self.options.verify]
        return options

    # The whole

    def run(self):
        options = self.options
        self.origin = self.lab.origin(self.lab.folder, "--threads", 2)
        self.cache = self.lab.folder / "cache"
        self.mount = self.mounted()
        self.watch = Watch(lambda: self.mount, self.cache, self.bounds, self.slots)
        self.watch.start()
        readers = [self.lab.spawn(*ENDS_WITH_US, sys.executable, READER, self.settings, number)
                   for number in range(options.readers)]
        self.began = time.monotonic()
        self.board.set(boards.BEGAN_AT, int(self.began))
        try:
            self.trouble(readers)
            self.seconds = time.monotonic() - self.began
            self.end(readers)
        except (Failed, AssertionError, OSError, subprocess.SubprocessError) as error:
            self.seconds = time.monotonic() - self.began
            self.problems.append(f"{type(error).__name__}: {error}")
        finally:
            for reader in readers:
                reader.kill()
                reader.wait()
        self.watch.stop()
        return self.figures()

    def mounted(self):
        return self.lab.mount(self.inventory.url, *self.arguments, endpoint=self.origin.endpoint)

    # With faults

    def trouble(self, readers):
        plans = faults.generator(self.options.seed)
        now = time.monotonic()
        end = now + self.options.seconds
        plan_due, said = now, now
        restarts = self.restart_times(now, end)
        plan = {}
        # On a busy machine a restart may come late, and comes all the same.
        while ((now := time.monotonic()) < end and not self.is_enough()) or restarts:
            self.look_after(readers)
            if now >= plan_due:
                name, plan, seconds = faults.draw_plan(plans, self.options.no_faults, self.options.wrong_bytes)
                self.note(name)
                faults.put(self.origin.endpoint, plan)
                plan_due = now + seconds
            if restarts and now >= restarts[0][0]:
                self.restart(restarts.pop(0)[1], plan)
            if now >= said + 30:
                said = now
                self.say(self.progress())
            time.sleep(0.1)

    def note(self, event):
        self.timeline.append((round(time.monotonic() - self.began, 1), event))

    def restart_times(self, begin, end):
        """Each way in turn."""
        count = int((end - begin) / self.options.seconds_between_restarts)
        ways = [RESTARTS[number % len(RESTARTS)] for number in range(count)]
        step = (end - begin) / (count + 1)
        return [(begin + step * (number + 1 + self.rng.uniform(-0.3, 0.3)), way) for number, way in enumerate(ways)]

    def look_after(self, readers):
        for number, reader in enumerate(readers):
            if reader.poll() is not None:
                raise Failed(f"reader {number} ended with {reader.returncode}")
        if self.mount.process.poll() is not None:
            raise Failed(f"the daemon ended by itself with {self.mount.process.returncode}:\n"
                         f"{self.mount.log()[-3000:]}")

    def restart(self, way, plan):
        self.restarts[way] += 1
        self.note(way)
        # Faults go on, but a store that cannot be reached keeps a mount from coming up, rightly.
        faults.put(self.origin.endpoint, {
            **plan, "rules": [rule for rule in plan.get("rules", []) if rule["fault"]["kind"] != "refuse"]})
        mount = self.mount
        self.board.add(boards.RESTARTS_BEGUN)
        if way == "kill -9":
            mount.kill()
        elif way == "SIGTERM":
            mount.signal(signal.SIGTERM)
            self.ended_well(mount, way)
        else:
            self.board.set(boards.DRAINING, 1)
            self.unmount(mount, self.bounds.call_seconds)
        self.mount = None
        self.mount = self.mounted()
        self.board.set(boards.DRAINING, 0)
        self.board.add(boards.RESTARTS_ENDED)
        self.note("mounted")

    def unmount(self, mount, seconds=0):
        """`inventoryfs unmount`, tried until the last reader has closed its file."""
        deadline = time.monotonic() + seconds
        while (result := self.lab.inventoryfs("unmount", mount.path)).returncode:
            if time.monotonic() > deadline:
                raise Failed(f"unmounting failed for {seconds:.0f} s: {result.stderr}; waiting: {self.waiting()}")
            time.sleep(0.1)
        self.ended_well(mount, "unmount")

    def ended_well(self, mount, way):
        mount.wait_for_end()
        if mount.process.returncode != 0:
            self.problems.append(f"after {way} the daemon ended with {mount.process.returncode}:\n"
                                 f"{mount.log()[-2000:]}")

    def waiting(self):
        return [f"{waiting[1]} since {waiting[0]:.1f} s" for slot in self.slots if (waiting := slot.waiting())]

    def total(self, field):
        return sum(slot.get(field) for slot in self.slots)

    def progress(self):
        totals = self.account()
        return (f"{time.monotonic() - self.began:4.0f} s: {self.total(boards.CALLS):,} calls, "
                f"{self.total(boards.COMPARED) / (1 << 30):.1f} GiB compared, "
                f"{sum(totals['faultsByKind'].values()):,} faults, {self.total(boards.WRONG)} wrong, "
                f"{self.watch.highest['memory_bytes'] / MIB:.0f} MiB of memory, "
                f"{self.watch.highest['cache_bytes'] / MIB:.0f} MiB of cache")

    # Without

    def end(self, readers):
        self.say("faults off")
        faults.put(self.origin.endpoint, {})
        self.board.set(boards.STOP, 1)
        deadline = time.monotonic() + self.bounds.call_seconds + 30
        for number, reader in enumerate(readers):
            try:
                reader.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise Failed(f"reader {number} does not end; {stack(reader.pid)}; waiting: {self.waiting()}") from None
        self.totals = self.account()
        self.check("at the end")
        self.at_rest()
        self.unmount(self.mount)
        self.leftovers()
        self.mount = None
        self.mount = self.mounted()
        self.check("with the same cache, after a restart")
        self.unmount(self.mount)
        self.leftovers()

    def check(self, when):
        self.say(f"every chunk, {when}")
        number = self.options.readers
        checker = self.lab.spawn(*ENDS_WITH_US, sys.executable, READER, self.settings, number, "--check")
        try:
            status = checker.wait(120 + self.bounds.call_seconds)
        except subprocess.TimeoutExpired:
            waiting, where = self.board.slot(number).waiting(), stack(checker.pid)
            checker.kill()
            raise Failed(f"{when}, a chunk cannot be read: {waiting}; {where}") from None
        if status:
            self.problems.append(f"{when}, the check ended with {status}")

    def at_rest(self):
        """With no reader left, nothing is under way: not in the kernel, not in the daemon, not at the store."""
        kernel = KernelGauge(self.lab.folder / "fusectl", self.mount.path)
        try:
            self.settles("requests of the kernel that the daemon has not answered", kernel.waiting)
        finally:
            kernel.close()

        def requests():
            before = self.account()
            time.sleep(2)
            after = self.account()
            return after["requests"] - before["requests"] + after["bodyBytesSent"] - before["bodyBytesSent"]

        def busy_milliseconds():
            before = processor_seconds(self.mount.pid)
            time.sleep(2)
            return max(0, round(1000 * (processor_seconds(self.mount.pid) - before)) - 100)

        self.settles("requests and bytes at the store within 2 s", requests)
        self.settles("milliseconds of processor time within 2 s, beyond 100", busy_milliseconds)
        for name in GAUGES_OF_WHAT_IS_UNDER_WAY:
            self.settles(f"{name}, as the mount itself says", lambda: int(self.mount.xattr(f"user.inventoryfs.{name}")))
        if int(self.mount.xattr("user.inventoryfs.pid")) != self.mount.pid:
            self.problems.append("the status names another process than the daemon")

    def settles(self, what, value):
        deadline = time.monotonic() + REST_SECONDS
        while left := value():
            if time.monotonic() > deadline:
                self.problems.append(f"{left} {what}, {REST_SECONDS} s after the last reader")
                return
            time.sleep(0.2)

    def leftovers(self):
        names = {str(path.relative_to(self.cache)) for path in self.cache.rglob("*") if path.is_file()}
        for name in sorted(names):
            if not CACHE_FILES.fullmatch(name):
                self.problems.append(f"left in the cache directory: {name}")
            other = {".data": ".index", ".index": ".data"}.get(pathlib.PurePath(name).suffix)
            if other and str(pathlib.PurePath(name).with_suffix(other)) not in names:
                self.problems.append(f"left in the cache directory without its {other}: {name}")

    def account(self):
        return faults.when_reachable(self.origin.stats)["totals"]

    # What came of it

    def lines(self, kind):
        """What the readers wrote."""
        return [line for path in sorted(self.lab.folder.glob(f"reader-*.{kind}"))
                for line in path.read_text().splitlines()]

    def noticed(self):
        """The problems so far: of the conductor, of the readers, of the bounds."""
        return self.problems + self.lines("problems") + [text for _, text in self.watch.problems]

    def figures(self):
        results = [json.loads(path.read_text()) for path in sorted(self.lab.folder.glob("reader-*.json"))]
        self.problems = self.noticed()
        for mount in self.lab.mounts:
            if "Fatal error" in mount.log():
                self.problems.append(f"{mount.log_path.name}: {mount.log()[-2000:]}")
        seconds, call = max(slot.longest() for slot in self.slots)
        if seconds > self.bounds.call_seconds:
            self.problems.append(f"a call took {seconds:.1f} s, over {self.bounds.call_seconds:.0f}: {call}")
        totals = getattr(self, "totals", None) or self.account()
        return {
            "seed": self.options.seed, "arguments": self.options.arguments(), "seconds": self.seconds,
            "readers": self.options.readers, "restarts": self.restarts,
            "restarts_text": ", ".join(f"{count} × {way}" for way, count in self.restarts.items()),
            "calls": self.total(boards.CALLS), "programs": self.total(boards.PROGRAMS),
            "programs_by_kind": summed(result["programs"] for result in results),
            "killed": sum(result["killed"] for result in results),
            "bytes_compared": self.total(boards.COMPARED), "wrong_reads": self.total(boards.WRONG),
            "requests": totals["requests"], "bytes_sent": totals["bodyBytesSent"],
            "faults": report.split_statuses(totals), "timeline": self.timeline,
            "slow_calls": self.lines("slow"),
            "errors": summed(result["errors"] for result in results),
            "longest_call_seconds": seconds, "longest_call": call,
            "slowest_status_seconds": self.watch.slowest_status_seconds,
            "highest": self.watch.highest, "samples": self.watch.samples, "bounds": dataclasses.asdict(self.bounds),
            "problems": self.problems,
        }


class KernelGauge:
    """How many requests of a mount the kernel has open (Documentation/filesystems/fuse.rst, "Control filesystem").

    Only root may look; 0 for others.
    """

    def __init__(self, folder, mountpoint):
        self.folder = folder
        self.path = None
        if os.geteuid() == 0:
            folder.mkdir(exist_ok=True)
            subprocess.run(["mount", "-t", "fusectl", "fusectl", folder], check=True)
            self.path = folder / str(os.minor(os.stat(mountpoint).st_dev)) / "waiting"

    def waiting(self):
        return int(self.path.read_text()) if self.path else 0

    def close(self):
        if self.path:
            processes.unmount_lazily(self.folder)


def stack(pid):
    """Where in the kernel a process waits; root only."""
    try:
        return pathlib.Path(f"/proc/{pid}/stack").read_text().strip().replace("\n", " ")
    except OSError as error:
        return f"no stack ({error.strerror})"


def processor_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def summed(tables):
    sums = {}
    for table in tables:
        for name, count in table.items():
            sums[name] = sums.get(name, 0) + count
    return sums

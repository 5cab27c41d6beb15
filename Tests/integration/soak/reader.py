"""One reader of a soak: programs of reads, drawn by the seed, each byte compared with the flat copy.

usage: reader.py SETTINGS NUMBER            until the board says stop
       reader.py SETTINGS NUMBER --check    each chunk once in each way, no error allowed

At its end it writes what it counted to reader-NUMBER.json; what must not be (a wrong byte, an errno that is not
documented, a reader that cannot be killed) it appends to reader-NUMBER.problems at once.

A process of its own, because a page fault in a mapped file holds Python's lock. Where a reader is to die, in a page
that cannot be had or by a signal, that is done by a child.
"""

import collections
import errno
import json
import mmap
import os
import pathlib
import random
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from soak import board as boards  # noqa: E402

KIB, MIB = 1 << 10, 1 << 20

# README, "Errors".
DOCUMENTED = {errno.EIO, errno.ESTALE, errno.ENOENT, errno.EACCES}
# What a handle or a path of a mount that ended gives: from the kernel, and ENOENT from the directory below.
OF_A_RESTART = {errno.ENOTCONN, errno.ECONNABORTED, errno.ESHUTDOWN, errno.ENOENT, errno.ENODEV}
KILLED_SECONDS = 15
CHILD_FOUND_PROBLEM = 255
MOST_PROBLEMS = 50


class Leave(Exception):
    """The conductor wants all files closed."""


class Reader:
    def __init__(self, settings, number):
        self.number = number
        self.data = pathlib.Path(settings["data"])
        self.folder = pathlib.Path(settings["folder"])
        self.seed = settings["seed"]
        self.aligned = memoryview(mmap.mmap(-1, MIB))
        self.rng = None
        self.leaves = True
        self.board = boards.Board(pathlib.Path(settings["board"]))
        self.slot = self.board.slot(number)
        self.slow_seconds = settings["slow_seconds"]
        self.columns = settings["columns"]
        self.copies = {name: map_copy(pathlib.Path(path)) for name, path in settings["copies"].items()}
        self.names = sorted(self.copies)
        self.large_names = [name for name in self.names if len(self.copies[name]) > MIB]
        self.errors = collections.Counter()
        self.programs = collections.Counter()
        self.killed = 0
        self.program = ""
        self.began_at_restart = 0

    # The run

    def run(self):
        kinds = [(weight, getattr(self, name)) for name, weight in PROGRAMS.items()]
        weights, functions = zip(*kinds)
        while not self.board.get(boards.STOP):
            if self.board.get(boards.DRAINING):
                time.sleep(0.02)
                continue
            program = self.slot.get(boards.PROGRAMS)
            # One generator for each: what a program does must not depend on where the one before it failed.
            self.rng = random.Random(f"{self.seed}/reader {self.number}/program {program}")
            function = self.rng.choices(functions, weights)[0]
            name = self.rng.choice(self.rng.choice([self.names, self.large_names]))
            self.program = f"program {program}, {function.__name__}"
            # A restart that ended before now is none of this program's errors' business.
            self.began_at_restart = self.board.get(boards.RESTARTS_ENDED)
            self.programs[function.__name__] += 1
            try:
                function(name)
            except Leave:
                pass
            except OSError as error:
                self.failed(error, name)
            self.slot.add(boards.PROGRAMS)
        result = {"errors": self.errors, "programs": self.programs, "killed": self.killed}
        (self.folder / f"reader-{self.number}.json").write_text(json.dumps(result))

    def check(self):
        """With the store well again, all must be had at the first attempt."""
        self.leaves = False
        for name in self.names:
            self.rng = random.Random(f"{self.seed}/check {name}")
            size = len(self.copies[name])
            for way, read in (("whole", self.whole),
                              ("direct", lambda name: self.read_directly(name, range(0, size + 1, MIB), MIB))):
                self.program = f"check, {way}"
                try:
                    read(name)
                except OSError as error:
                    self.problem(f"{name}: {error.strerror}, although the store is well")

    def failed(self, error, name):
        restarted = self.board.get(boards.RESTARTS_BEGUN) > self.began_at_restart
        label = errno.errorcode.get(error.errno, str(error.errno))
        if restarted and error.errno in OF_A_RESTART:
            self.errors[f"{label} of a restart"] += 1
            time.sleep(0.05)
        elif error.errno in DOCUMENTED:
            self.errors[label] += 1
        else:
            self.problem(f"{name}: {label}, which is not documented")

    def problem(self, text):
        self.slot.add(boards.PROBLEMS)
        if self.slot.get(boards.PROBLEMS) > MOST_PROBLEMS:
            return  # only counted
        self.write("problems", text)

    def write(self, kind, text):
        seconds = time.monotonic() - self.board.get(boards.BEGAN_AT)
        with open(self.folder / f"reader-{self.number}.{kind}", "a") as file:
            file.write(f"reader {self.number}, {self.program}, at {seconds:.0f} s: {text}\n")

    # Programs

    def whole(self, name):
        with self.opened(name) as file:
            self.sequence(file, name, 0, len(self.copies[name]))

    def twice(self, name):
        with self.opened(name) as file:
            for _ in range(2):
                self.sequence(file, name, 0, len(self.copies[name]))

    def a_part(self, name):
        size = len(self.copies[name])
        with self.opened(name) as file:
            begin = self.rng.randrange(size + 1)
            self.sequence(file, name, begin, min(size, begin + self.rng.randrange(8 * MIB)))

    def random_places(self, name):
        with self.opened(name) as file:
            for _ in range(self.rng.randrange(1, 80)):
                self.read(file, name, *self.random_range(name))

    def backwards(self, name):
        step = self.rng.choice([4096, 65_536, 100_000, MIB])
        with self.opened(name) as file:
            end = len(self.copies[name])
            for _ in range(64):
                if end <= 0:
                    break
                self.read(file, name, max(0, end - step), min(step, end))
                end -= step

    def streams(self, name):
        """Several sequential readers in one handle."""
        size = len(self.copies[name])
        with self.opened(name) as file:
            positions = [self.rng.randrange(size + 1) for _ in range(self.rng.randrange(2, 7))]
            for _ in range(40):
                at = self.rng.randrange(len(positions))
                positions[at] += self.read(file, name, positions[at], 128 * KIB)

    def parquet(self, name):
        """The footer, then some columns of each row group, in order: as DuckDB and pyarrow read."""
        name = self.rng.choice(sorted(self.columns))
        size = len(self.copies[name])
        ranges = self.columns[name]
        wanted = self.rng.sample(range(11), self.rng.randrange(1, 4))
        with self.opened(name) as file:
            self.read(file, name, size - 8, 8)
            self.read(file, name, max(0, size - 64 * KIB), 64 * KIB)
            for index, (begin, end) in enumerate(ranges):
                if index % 11 in wanted:
                    self.sequence(file, name, begin, end)

    def open_and_close(self, _):
        for _ in range(self.rng.randrange(1, 30)):
            name = self.rng.choice(self.names)
            with self.opened(name) as file:
                if self.rng.random() < 0.5:
                    self.read(file, name, 0, self.rng.choice([1, 100, 4096]))

    def direct(self, name):
        """Past the kernel's cache: each read is the daemon's, or the kernel's own of a chunk that is whole."""
        size = len(self.copies[name])
        step = self.rng.choice([4096, 64 * KIB, MIB])
        offsets = range(0, size + 1, step)
        if self.rng.random() < 0.6:
            offsets = [self.rng.choice(offsets) for _ in range(self.rng.randrange(1, 200))]
        self.read_directly(name, offsets[:200], step)

    def read_directly(self, name, offsets, step):
        """Aligned, as the disk wants it where the kernel reads by itself."""
        with self.opened(name, os.O_DIRECT) as file:
            for offset in offsets:
                self.leave_if_told()
                got = self.call("read directly", name, offset, step, os.preadv, file.fileno(), [self.aligned[:step]],
                                offset)
                self.compare(name, offset, step, bytes(self.aligned[:got]))

    def held_open(self, name):
        """Little by little for many seconds: through evictions, changes of the plan, and restarts."""
        with self.opened(name) as file:
            until = time.monotonic() + self.rng.uniform(1, 20)
            while time.monotonic() < until:
                # What the kernel has cached would tell nothing about the daemon.
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                self.read(file, name, *self.random_range(name))
                time.sleep(self.rng.uniform(0, 0.3))

    def listing(self, _):
        names = sorted(self.call("list", "", 0, 0, os.listdir, self.data))
        if names != self.names:
            self.problem(f"the listing has {names}, expected are {self.names}")
        for name in self.rng.sample(self.names, 5):
            path = self.data / name
            size = self.call("stat", name, 0, 0, os.stat, path).st_size
            if size != len(self.copies[name]):
                self.problem(f"{name}: {size} bytes, expected are {len(self.copies[name])}")
            for attribute in self.call("listxattr", name, 0, 0, os.listxattr, path) + [
                    f"user.inventoryfs.{state}" for state in ("cached_bytes", "read_path", "verified")]:
                self.call(f"getxattr {attribute}", name, 0, 0, os.getxattr, path, attribute)

    def mapped(self, name):
        """In a child, because a page that cannot be had is SIGBUS."""
        status = self.in_child(self.read_mapped, name)
        self.slot.end()
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGBUS:
            self.errors["SIGBUS"] += 1
        elif status != 0 and os.waitstatus_to_exitcode(status) != CHILD_FOUND_PROBLEM:
            self.problem(f"{name}: the child that maps it ended with {os.waitstatus_to_exitcode(status)}")

    def read_mapped(self, name):
        with self.opened(name) as file:
            if not self.copies[name]:
                return
            with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory:
                for _ in range(self.rng.randrange(1, 40)):
                    self.leave_if_told()
                    offset, length = self.random_range(name)
                    got = self.call("map", name, offset, length, lambda: memory[offset:offset + length])
                    self.compare(name, offset, length, got)

    def abandoned(self, name):
        """A child that reads is killed in the middle of it. It must go at once, whatever the store does."""
        number = self.rng.choice([signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
        delay = self.rng.choice([0, 0.001, 0.01, 0.1, 0.3])

        def read_for_ever(name):
            with self.opened(name) as file:
                while self.copies[name]:
                    os.pread(file.fileno(), *reversed(self.random_range(name)))
            time.sleep(10)

        child = self.fork(read_for_ever, name)
        time.sleep(delay)
        os.kill(child, number)
        self.slot.begin(f"the end of a reader of {name}, by {number.name}")
        deadline = time.monotonic() + KILLED_SECONDS
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                self.problem(f"{name}: a reader did not end within {KILLED_SECONDS} s of {number.name}")
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                break
            time.sleep(0.002)
        self.slot.end()
        self.killed += 1

    # What they are made of

    def opened(self, name, flags=0):
        return File(self, name, flags)

    def random_range(self, name):
        """(offset, length): mostly small and anywhere; also large, across a block's border, and across the end."""
        size = len(self.copies[name])
        length = self.rng.choice([1, 7, 512, 4096, 4097, 65_536, 131_072, self.rng.randrange(1, MIB), 2 * MIB])
        draw = self.rng.randrange(10)
        if draw == 0:
            return max(0, size - self.rng.randrange(2 * length)), length
        if draw == 1:
            return self.rng.randrange(size // MIB + 1) * MIB, length
        if draw == 2:
            return max(0, self.rng.randrange(size // MIB + 1) * MIB - self.rng.randrange(1, length + 1)), length
        return self.rng.randrange(size + 1), length

    def sequence(self, file, name, begin, end):
        step = self.rng.choice([4096, 65_536, 100_000, 131_072, MIB])
        while begin < end and (got := self.read(file, name, begin, min(step, end - begin))):
            begin += got

    def read(self, file, name, offset, length):
        """All of the range that the chunk has; the number of bytes."""
        end = min(offset + length, len(self.copies[name]))
        at = offset
        while True:
            self.leave_if_told()
            wanted = offset + length - at
            got = self.call("read", name, at, wanted, os.pread, file.fileno(), wanted, at)
            self.compare(name, at, wanted, got)
            at += len(got)
            # A read may be short where a later part of it failed, and the next says why. At the end it gives nothing.
            if at >= end or not got:
                return max(0, at - offset)

    def leave_if_told(self):
        """Before each call of a program that has a file open: who unmounts waits for no more than the one under way."""
        if self.leaves and (self.board.get(boards.STOP) or self.board.get(boards.DRAINING)):
            raise Leave

    def call(self, what, name, offset, length, function, *arguments):
        text = f"{what} {name} at {offset} for {length}"
        outcome = "another exception"
        self.slot.begin(text)
        try:
            result = function(*arguments)
            outcome = "succeeded"
            return result
        except OSError as error:
            outcome = errno.errorcode.get(error.errno, str(error.errno))
            raise
        finally:
            seconds = self.slot.end()
            self.slot.add(boards.CALLS)
            if seconds > self.slow_seconds:
                self.write("slow", f"{text}: {outcome} after {seconds:.1f} s")

    def compare(self, name, offset, asked, got):
        copy = self.copies[name]
        expected = copy[offset:offset + len(got)]
        self.slot.add(boards.COMPARED, len(got))
        if not got and offset < len(copy) and asked:
            self.problem(f"{name}: the end of the file at {offset}, which is at {len(copy)}")
        if got == expected:
            return
        self.slot.add(boards.WRONG)
        first = next((i for i, pair in enumerate(zip(got, expected)) if pair[0] != pair[1]), len(expected))
        last = next((i for i in range(len(expected) - 1, -1, -1) if got[i] != expected[i]), len(got) - 1)
        self.problem(f"{name}: WRONG BYTES from {offset + first} to {offset + last}, in a read of {asked} at {offset} "
                     f"that gave {len(got)}: {self.origin_of(got[first:last + 1])}")

    def origin_of(self, wrong):
        """Where wrong bytes seem to come from, which tells what went wrong."""
        if not any(wrong):
            return "zeros, as in a hole"
        if len(wrong) >= 16:
            for name, copy in self.copies.items():
                at = copy.find(wrong[:64]) if copy else -1
                if at >= 0:
                    return f"they are those of {name} at {at}"
        return f"{wrong[:16].hex()}, found nowhere"

    # Children

    def fork(self, function, name):
        child = os.fork()
        if child:
            return child
        status = 0
        try:
            function(name)
        except Leave:
            pass
        except OSError as error:
            # What it fails with is its parent's to count, where that matters.
            status = error.errno
        except BaseException as error:
            self.problem(f"{name}: {type(error).__name__}: {error}")
            status = CHILD_FOUND_PROBLEM
        os._exit(status)

    def in_child(self, function, name):
        """The wait status of a child that failed by itself, an errno it failed with counted; 0 if it did."""
        status = os.waitpid(self.fork(function, name), 0)[1]
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
        if code and code != CHILD_FOUND_PROBLEM:
            self.failed(OSError(code, ""), name)
            return 0
        return status


# Weights: a program that reads little has to come more often to count.
PROGRAMS = {
    "whole": 10, "twice": 4, "a_part": 8, "random_places": 12, "backwards": 5, "streams": 5, "parquet": 10,
    "open_and_close": 6, "direct": 12, "held_open": 3, "listing": 4, "mapped": 6, "abandoned": 12,
}


class File:
    """An open chunk. Mostly the kernel is told to forget what it has of it, which would keep the daemon out of it."""

    def __init__(self, reader, name, flags):
        self.reader, self.name, self.flags = reader, name, flags

    def __enter__(self):
        path = self.reader.data / self.name
        self.descriptor = self.reader.call("open", self.name, 0, 0, os.open, path, os.O_RDONLY | self.flags)
        if self.reader.rng.random() < 0.7 or not self.reader.leaves:
            os.posix_fadvise(self.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return self

    def fileno(self):
        return self.descriptor

    def __exit__(self, *_):
        os.close(self.descriptor)


def map_copy(path):
    if not path.stat().st_size:
        return b""
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)


if __name__ == "__main__":
    settings, number, *check = sys.argv[1:]
    # Python's own handler would make an exception of it, wherever a child is at that moment.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    reader = Reader(json.loads(pathlib.Path(settings).read_text()), int(number))
    reader.check() if check else reader.run()

"""What the conductor and its readers tell each other while they run: a few numbers in a file that all have mapped.

    header        stop, draining, restarts begun, restarts ended, the soak's begin in whole seconds: 8 bytes each
    one slot for each reader, 512 bytes:
         0        when its call began (CLOCK_MONOTONIC; 0: none), the longest call's seconds
        16        calls made, bytes compared, programs run, reads with wrong bytes, problems of any sort
        64        what the call is, UTF-8, up to a zero
       256        what the longest call was, likewise

Each field has one writer at a time and is written whole, so no lock is needed: a reader may hang in a page fault, and
must not take a lock with it.
"""

import mmap
import struct
import time

HEADER_SIZE, SLOT_SIZE, TEXT_SIZE = 64, 512, 192
STOP, DRAINING, RESTARTS_BEGUN, RESTARTS_ENDED, BEGAN_AT = range(0, 40, 8)
BEGAN, LONGEST = 0, 8
CALLS, COMPARED, PROGRAMS, WRONG, PROBLEMS = range(16, 56, 8)
TEXT, LONGEST_TEXT = 64, 256


class Board:
    def __init__(self, path, readers=0):
        if readers:
            path.write_bytes(bytes(HEADER_SIZE + readers * SLOT_SIZE))
        with open(path, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 0)

    def get(self, field):
        return struct.unpack_from("<Q", self.memory, field)[0]

    def set(self, field, value):
        struct.pack_into("<Q", self.memory, field, value)

    def add(self, field, count=1):
        self.set(field, self.get(field) + count)

    def slot(self, reader):
        return Slot(self, HEADER_SIZE + reader * SLOT_SIZE)


class Slot:
    def __init__(self, board, start):
        self.board, self.memory, self.start = board, board.memory, start

    def begin(self, text):
        data = text.encode()[:TEXT_SIZE - 1] + b"\0"
        self.memory[self.start + TEXT:self.start + TEXT + len(data)] = data
        self._set_seconds(BEGAN, time.monotonic())

    def end(self):
        """The seconds that it took; 0 if there was none."""
        waiting = self.waiting()
        self._set_seconds(BEGAN, 0.0)
        if waiting and waiting[0] > self._seconds(LONGEST):
            self._set_seconds(LONGEST, waiting[0])
            begin = self.start + TEXT
            self.memory[self.start + LONGEST_TEXT:self.start + LONGEST_TEXT + TEXT_SIZE] = \
                self.memory[begin:begin + TEXT_SIZE]
        return waiting[0] if waiting else 0.0

    def waiting(self):
        """(seconds, what) of the call under way; None if there is none."""
        began = self._seconds(BEGAN)
        return (time.monotonic() - began, self._text(TEXT)) if began else None

    def longest(self):
        return self._seconds(LONGEST), self._text(LONGEST_TEXT)

    def get(self, field):
        return self.board.get(self.start + field)

    def add(self, field, count=1):
        self.board.add(self.start + field, count)

    def _seconds(self, field):
        return struct.unpack_from("<d", self.memory, self.start + field)[0]

    def _set_seconds(self, field, value):
        struct.pack_into("<d", self.memory, self.start + field, value)

    def _text(self, field):
        begin = self.start + field
        return self.memory[begin:begin + TEXT_SIZE].split(b"\0")[0].decode(errors="replace")

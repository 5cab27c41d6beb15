"""The soak: many readers of one mount, a cache too small for them, a store that keeps failing, a daemon that is killed.

    run.py        one soak from the first mount to the last unmount; what it asserts
    chunks.py     the inventory, and the flat copy that every byte is compared with
    faults.py     what the store does wrong, and when: a plan for every few seconds, by the seed
    reader.py     one reader, a process of its own: programs of reads, by the seed
    board.py      what readers and conductor tell each other while they run
    watch.py      memory, descriptors, threads and disk of the daemon, sampled against their bounds
    report.py     the figures, for people and as JSON

The seed fixes what each reader does and what each request meets. How they interleave it cannot fix, so that a replay
makes the same kind of trouble, not the same instant.
"""

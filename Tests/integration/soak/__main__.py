"""usage: python -m soak --minutes 10 [--seed N] [--json FILE]; Tests/soak calls it."""

import argparse
import dataclasses
import pathlib
import random
import shutil
import signal
import sys
import tempfile

from harness.lab import Lab

from . import report
from .run import Options, Soak


def main():
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    defaults = {field.name: field.default for field in dataclasses.fields(Options)}
    parser = argparse.ArgumentParser(prog="Tests/soak", description="Readers, faults and restarts for some minutes.")
    parser.add_argument("--minutes", type=float, default=10, help="how long there are faults (default: 10)")
    parser.add_argument("--seed", type=int, help="that of an earlier run, to play it again (default: a new one)")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="where the figures go too")
    parser.add_argument("--readers", type=int, default=defaults["readers"])
    parser.add_argument("--cache-mib", type=int, default=defaults["cache_mib"], help="--cache-size of the mount")
    parser.add_argument("--read-timeout-seconds", type=int, default=defaults["read_timeout_seconds"])
    parser.add_argument("--seconds-between-restarts", type=float, default=defaults["seconds_between_restarts"])
    parser.add_argument("--verify", choices=["background", "strict", "off"], default=defaults["verify"],
                        help="that of the mount")
    parser.add_argument("--no-faults", action="store_true", help="readers and restarts only")
    failing = parser.add_argument_group("to see it fail")
    failing.add_argument("--wrong-bytes", type=float, default=0.0, metavar="P",
                         help="the store flips a bit in so many answers, 0 to 1")
    failing.add_argument("--memory-mib", type=int, metavar="N", help="another bound than the documented one")
    failing.add_argument("--descriptors", type=int, metavar="N", help="likewise")
    failing.add_argument("--cache-bound-mib", type=int, metavar="N", help="likewise")
    given = vars(parser.parse_args())
    path = given.pop("json")
    seed = given.pop("seed")
    options = Options(seconds=given.pop("minutes") * 60,
                      seed=random.SystemRandom().randrange(1 << 32) if seed is None else seed, **given)

    print(f"seed {options.seed}", flush=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="inventoryfs-soak."))
    lab = Lab(folder / "soak")
    try:
        figures = Soak(lab, options, say=lambda text: print(text, flush=True)).run()
        if figures["problems"]:
            for mount in lab.mounts:
                shutil.copy(mount.log_path, folder)
            print(f"the daemons' logs are in {folder}")
    finally:
        left = lab.close()
        if not any(folder.iterdir()):
            folder.rmdir()
    figures["problems"] += left
    print(report.text(figures))
    if path:
        report.write_json(path, figures)
    sys.exit(1 if figures["problems"] else 0)


main()

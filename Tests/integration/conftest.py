"""Fixtures: a session-wide SeaweedFS with inventories in it, and a `lab` for each test (harness/lab.py)."""

import faulthandler
import os
import pathlib
import shutil
import signal
import tempfile
import threading

import pytest

from harness import processes
from harness.inventory import make_inventories
from harness.lab import BINARIES, Lab
from harness.seaweedfs import SeaweedFS

# Told to end, pytest ends as by Ctrl-C: it takes down its fixtures.
signal.signal(signal.SIGTERM, signal.default_int_handler)
# A shell that starts us in the background has SIGINT ignored, and readers that are to be interrupted would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

DEFAULT_LIMIT_SECONDS = 300
GRACE_SECONDS = 60


def pytest_sessionstart():
    for name in ("inventoryfs", "s3-origin"):
        if not os.access(BINARIES / name, os.X_OK):
            pytest.exit(f"no {BINARIES / name}: swift build -c release --product {name}", 1)


@pytest.fixture(scope="session")
def scratch():
    """Where everything of this run lies; open to other users, whose mounts are tested too."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="inventoryfs-tests."))
    folder.chmod(0o755)
    yield folder
    for path in processes.mounts_under(folder):
        processes.unmount_lazily(path)
    shutil.rmtree(folder)


@pytest.fixture
def lab(scratch, request):
    """A place of its own for one test, and a watchdog that ends what the test started when it takes too long."""
    lab = Lab(scratch / f"test-{os.getpid()}-{next_number()}")
    marker = request.node.get_closest_marker("limit")
    seconds = marker.args[0] if marker else DEFAULT_LIMIT_SECONDS
    expired = threading.Event()

    def end_it():
        expired.set()
        lab.abort()

    watchdog = threading.Timer(seconds, end_it)
    watchdog.daemon = True
    watchdog.start()
    # For a thread that hangs where aborting does not help; Tests/run then removes mounts that are left.
    faulthandler.dump_traceback_later(seconds + GRACE_SECONDS, exit=True)
    yield lab
    watchdog.cancel()
    problems = lab.close() + sanitizer_reports()
    faulthandler.cancel_dump_traceback_later()
    if expired.is_set():
        problems.insert(0, f"took more than {seconds} s")
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


def sanitizer_reports():
    """What the processes of the test reported (Tests/sanitize)."""
    folder = os.environ.get("INVENTORYFS_SANITIZER_REPORTS")
    reports = sorted(pathlib.Path(folder).iterdir()) if folder else []
    texts = [report.read_text(errors="replace")[:8000] for report in reports]
    for report in reports:
        report.unlink()
    return texts


def next_number(counter=iter(range(1_000_000))):
    return next(counter)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test's report ends with what its daemons and servers logged."""
    report = yield
    lab = item.funcargs.get("lab") if hasattr(item, "funcargs") else None
    if call.when == "call" and report.failed and lab:
        for source in [*lab.mounts, *lab.origins]:
            if source.log_path.exists():
                text = source.log_path.read_text(errors="replace")
                report.sections.append((f"log {source.log_path.name}", text[-8000:]))
    return report


@pytest.fixture(scope="session")
def inventories(scratch):
    """(CSV, Parquet), some 6 MiB in each of 4 chunks: large enough for several parts a chunk."""
    return make_inventories(scratch / "inventories", "--csv-chunks", 4, "--csv-mb", 6,
                            "--parquet-chunks", 4, "--parquet-mb", 6)


@pytest.fixture(scope="session")
def csv_inventory(inventories):
    return inventories[0]


@pytest.fixture(scope="session")
def parquet_inventory(inventories):
    return inventories[1]


@pytest.fixture(scope="session")
def big_inventory(scratch):
    """288 MiB of CSV in 12 chunks, for what needs time or more bytes than the cache holds."""
    return make_inventories(scratch / "big", "--csv-chunks", 12, "--csv-mb", 24, "--parquet-chunks", 0,
                            name="big")[0]


@pytest.fixture(scope="session")
def seaweedfs(scratch, inventories):
    server = SeaweedFS(scratch / "seaweedfs", {"PATH": os.environ["PATH"], "HOME": str(scratch)})
    try:
        for inventory in inventories:
            server.upload(inventory)
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def seaweedfs_with_big_inventory(seaweedfs, big_inventory):
    seaweedfs.upload(big_inventory)
    return seaweedfs

"""Fixtures: inventories and a SeaweedFS that all workers of a run share, and a `lab` for each test (harness/lab.py)."""

import faulthandler
import os
import pathlib
import shutil
import signal
import tempfile
import threading

import pytest

from harness import processes, shared
from harness.inventory import make_inventories, make_random_inventory
from harness.lab import INVENTORYFS, S3_ORIGIN, Lab
from harness.seaweedfs import SeaweedFS

# Told to end, pytest ends as by Ctrl-C: it takes down its fixtures.
signal.signal(signal.SIGTERM, signal.default_int_handler)
# A shell that starts us in the background has SIGINT ignored, and readers that are to be interrupted would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Before pytest-timeout ends a test, what the test started is ended, so that a hung read fails and the test with it; where
# neither helps (a page fault in a mapped file cannot be interrupted), this process ends so long after.
GRACE_SECONDS = 20
stderr = pytest.StashKey[int]()


def pytest_sessionstart(session):
    for binary in (INVENTORYFS, S3_ORIGIN):
        if not os.access(binary, os.X_OK):
            pytest.exit(f"{binary} is missing; build it: swift build -c release --product {binary.name}", 1)
    # Now, because during a test it leads to where pytest captures output.
    session.config.stash[stderr] = os.dup(2)
    if shared.is_main_process(session.config) and not session.config.option.collectonly:
        shared.start()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    if shared.is_main_process(session.config):
        shared.end()


def pytest_collection_modifyitems(items):
    """Long tests come first: at the end no worker is left alone with one of them."""
    items.sort(key=lambda item: -limit_seconds(item))


def limit_seconds(item):
    marker = item.get_closest_marker("timeout")
    return marker.args[0] if marker else float(item.config.getini("timeout"))


@pytest.fixture(scope="session")
def scratch():
    """Where everything of this process lies; open to other users, whose mounts are tested too."""
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
    seconds = limit_seconds(request.node)
    stacks = lab.folder / "stacks"
    expired = threading.Event()

    def end_it():
        with open(stacks, "w") as file:
            faulthandler.dump_traceback(file)
        expired.set()
        lab.abort()

    watchdog = threading.Timer(seconds - GRACE_SECONDS, end_it)
    watchdog.daemon = True
    watchdog.start()
    # For a thread that hangs where aborting does not help; Tests/run then removes mounts that are left.
    faulthandler.dump_traceback_later(seconds + GRACE_SECONDS, exit=True, file=request.config.stash[stderr])
    yield lab
    watchdog.cancel()
    where = stacks.read_text() if expired.is_set() else ""
    problems = lab.close() + lab.sanitizer_reports()
    faulthandler.cancel_dump_traceback_later()
    if expired.is_set():
        problems.insert(0, f"took more than {seconds - GRACE_SECONDS:g} s; this is where it was:\n{where}")
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


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
def inventories():
    """(CSV, Parquet), some 6 MiB in each of 4 chunks: large enough for several parts a chunk."""
    return shared.made("inventories", lambda root: make_inventories(
        root, "--csv-chunks", 4, "--csv-mb", 6, "--parquet-chunks", 4, "--parquet-mb", 6))


@pytest.fixture(scope="session")
def csv_inventory(inventories):
    return inventories[0]


@pytest.fixture(scope="session")
def parquet_inventory(inventories):
    return inventories[1]


@pytest.fixture(scope="session")
def big_inventory():
    """288 MiB in 12 chunks, for what needs time or more bytes than the cache holds."""
    return shared.made("big", lambda root: make_random_inventory(root, "big", chunks=12, mib=24))


@pytest.fixture(scope="session")
def empty_seaweedfs():
    server = SeaweedFS(shared.folder() / "seaweedfs")
    shared.made("seaweedfs-is-ready", lambda _: server.wait_until_ready())
    return server


@pytest.fixture(scope="session")
def seaweedfs(empty_seaweedfs, inventories):
    shared.made("inventories-are-uploaded", lambda _: empty_seaweedfs.upload(*inventories))
    return empty_seaweedfs


@pytest.fixture(scope="session")
def seaweedfs_with_big_inventory(empty_seaweedfs, big_inventory):
    shared.made("big-is-uploaded", lambda _: empty_seaweedfs.upload(big_inventory))
    return empty_seaweedfs

"""What the README shows first does work."""

import os
import subprocess
import sys

import pytest

from harness import processes
from harness.inventory import MAKE_SAMPLE, REPOSITORY
from harness.processes import MARK


def test_the_sample_is_what_its_script_makes(lab):
    checked = lab.run(sys.executable, MAKE_SAMPLE, MAKE_SAMPLE.with_name("sample"), "--check")
    assert checked.returncode == 0, checked.stdout
    size = sum(path.stat().st_size for path in MAKE_SAMPLE.with_name("sample").rglob("*") if path.is_file())
    assert size <= 60 << 10


@pytest.mark.timeout(600)
def test_the_quickstart_runs_to_its_end_and_leaves_nothing(lab):
    result = quickstart(lab)
    assert result.returncode == 0, result.stdout + result.stderr
    for shown in ("manifest.json", ".csv.gz", ".parquet", '"src-bucket"', "PAR1", "0 requests"):
        assert shown in result.stdout, f"{shown} is not in:\n{result.stdout}"
    assert processes.mounts_under(lab.folder) == []
    assert processes.marked_processes(lab.mark) == []
    assert not list(lab.folder.glob("inventoryfs-quickstart.*"))


def quickstart(lab, *options):
    """It builds, so it gets the whole environment of this run; its working folder goes to the lab's."""
    environment = {**os.environ, MARK: lab.mark, "TMPDIR": str(lab.folder)}
    return subprocess.run([REPOSITORY / "mount-examples" / "quickstart", *options], env=environment,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=800)


@pytest.mark.timeout(600)
def test_the_quickstart_with_keep_leaves_a_mount_that_its_last_line_ends(lab):
    result = quickstart(lab, "--keep")
    assert result.returncode == 0, result.stdout + result.stderr
    mounts = processes.mounts_under(lab.folder)
    assert len(mounts) == 2
    assert all(os.listdir(os.path.join(path, "data")) for path in mounts)
    end = result.stdout.rstrip().splitlines()[-1].strip()
    lab.run("sh", "-c", end.removeprefix("$ "), PATH=os.environ["PATH"])
    assert processes.mounts_under(lab.folder) == []
    processes.wait_until(lambda: not processes.marked_processes(lab.mark), "all to end")

"""What the README shows first does work."""

import os
import re
import socket
import subprocess
import sys
import textwrap

import pytest

from harness import processes
from harness.inventory import MAKE_SAMPLE, REPOSITORY
from harness.lab import BINARIES
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


def commands_under(heading):
    """The indented lines that follow a heading of README.md, up to the next one, as a script."""
    text = ("\n" + (REPOSITORY / "README.md").read_text()).split(f"\n{heading}\n", 1)[1].split("\n## ", 1)[0]
    block = re.search(r"(?:^    .*\n)+", text, re.MULTILINE).group()
    return textwrap.dedent(block)


def run_readme(lab, script, **environment):
    """Runs the commands as they stand, in a folder of the lab's instead of /tmp, with a port that is free."""
    script = script.replace("/tmp/inv", str(lab.folder / "inv"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        script = script.replace("9000", str(free.getsockname()[1]))
    return subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=60,
        stdin=subprocess.DEVNULL,
        env={**lab.environment, **environment, "PATH": f"{BINARIES}:{lab.environment['PATH']}"})


def test_what_the_readme_shows_first_runs_as_it_stands(lab):
    origin = lab.origin(MAKE_SAMPLE.with_name("sample"))
    result = run_readme(lab, commands_under("# inventoryfs"), AWS_ENDPOINT_URL=origin.endpoint)
    assert result.returncode == 0, result.stdout + result.stderr
    lines = result.stdout.splitlines()
    assert any(".csv.gz" in line for line in lines) and int(lines[-1]) > 100, result.stdout
    assert processes.mounts_under(lab.folder) == []


def test_the_readme_s_trial_without_s3_runs_as_it_stands(lab):
    # pipefail would count `head`, which ends `zcat`.
    script = commands_under("## Try it without S3").replace("$PWD/.build/release", str(BINARIES))
    result = run_readme(lab, f"set +o pipefail\n{script}")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count('"src-bucket"') == 3, result.stdout
    assert processes.mounts_under(lab.folder) == []
    processes.wait_until(lambda: not processes.marked_processes(lab.mark), "all to end")

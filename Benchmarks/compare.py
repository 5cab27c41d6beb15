#!/usr/bin/env python3
"""Time the same reads on local files, inventoryfs, rclone mount and s3fs, all from one S3 server.

Benchmarks/run starts the server and this. A scene is a shell command; each run of it gets a fresh mount with an empty
cache. The peers take turns within a run, not one after the other through all runs, so that a machine that becomes slower
becomes so for all. The clock starts when the mount is there, and stops when the command ends. A scene counts only if the
answer is the one that the local files give. Results are medians.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import peers
import report

READERS = f"{shlex.quote(sys.executable)} {shlex.quote(str(pathlib.Path(__file__).with_name('readers.py')))}"
COMMAND_TIMEOUT_SECONDS = 900
DROP_PAGE_CACHE = "sync; echo 3 >/proc/sys/vm/drop_caches"


@dataclasses.dataclass(frozen=True)
class Scene:
    """A command that reads `$data`, the folder of chunks, or `$chunk`, the first of them."""

    name: str
    configuration: str
    command: str
    before: str = ""
    needs_root: bool = False


SCENES = [
    Scene("cold cat of one Parquet chunk", "parquet-daily", "cat $chunk | md5sum"),
    Scene("cold cat of all csv.gz", "csv-daily", "cat $data/* | md5sum"),
    Scene("cold zcat of all csv.gz", "csv-daily", "zcat $data/* | wc -l"),
    Scene("four readers at once, cold", "csv-daily", "ls $data/* | head -4 | xargs -P 4 -n 1 md5sum | cut -c 1-32 | sort"),
    Scene("200 small chunks, cold", "csv-small", "cat $data/* | md5sum"),
    Scene("DuckDB, 2 of 11 columns, cold", "parquet-daily", f"{READERS} columns $data"),
    Scene("Parquet footer of one chunk, cold", "parquet-daily", f"{READERS} footer $chunk"),
    Scene("60 random reads of 64 KiB, cold", "parquet-daily", f"{READERS} random $chunk"),
    Scene("head -c 100 of one csv.gz, cold", "csv-daily", "head -c 100 $chunk | md5sum"),
    Scene("warm cat of one Parquet chunk", "parquet-daily", "cat $chunk | md5sum", before="cat $chunk >/dev/null"),
    Scene("the same, page cache dropped", "parquet-daily", "cat $chunk | md5sum",
          before=f"cat $chunk >/dev/null; {DROP_PAGE_CACHE}", needs_root=True),
]


class Origin:
    """The S3 server's account of what it was asked for and sent."""

    def __init__(self, endpoint):
        self.endpoint = endpoint

    def reset(self):
        self._ask("POST", "reset")

    def totals(self):
        # An answer is counted when the last of it was sent, which may be a moment after the reader has it.
        time.sleep(0.1)
        return json.loads(self._ask("GET", "stats"))["totals"]

    def _ask(self, method, resource):
        request = urllib.request.Request(f"{self.endpoint}/-/{resource}", method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()


class Bench:
    def __init__(self, setting, runs):
        self.setting = setting
        self.runs = runs
        self.origin = Origin(setting.endpoint)

    def measure(self, scene, peer_types):
        """One result for each peer, as the JSON file has it."""
        samples = {peer_type: [] for peer_type in peer_types}
        errors = {}
        self._run(scene, peers.LocalFiles)  # So that the origin reads from the page cache in the first run, too.
        for _ in range(self.runs):
            answer = None
            for peer_type in peer_types:
                if peer_type in errors:
                    continue
                try:
                    sample = self._run(scene, peer_type)
                    answer = answer or sample["answer"]
                    if sample["answer"] != answer:
                        raise peers.PeerError(f"answers {sample['answer'][:200]!r}, not {answer[:200]!r}")
                    samples[peer_type].append(sample)
                except (peers.PeerError, subprocess.SubprocessError, OSError) as error:
                    errors[peer_type] = str(error)
        return [result(scene, peer_type, samples[peer_type], errors.get(peer_type)) for peer_type in peer_types]

    def _run(self, scene, peer_type):
        begin = time.monotonic()
        with peer_type(self.setting, scene.configuration) as peer:
            mount_seconds = time.monotonic() - begin
            if scene.before:
                self._shell(scene.before, peer.data, scene)
            self.origin.reset()
            seconds, answer = self._shell(scene.command, peer.data, scene)
            totals = self.origin.totals()
            return {
                "seconds": seconds, "mount_seconds": mount_seconds, "answer": answer,
                "requests": totals["requests"], "bytes_sent": totals["bodyBytesSent"],
                "peak_rss_in_bytes": peer.peak_rss_in_bytes(),
            }

    def _shell(self, command, data, scene):
        environment = dict(self.setting.environment, data=str(data), chunk=str(data / self._first_chunk(scene)))
        begin = time.monotonic()
        process = subprocess.Popen(
            ["bash", "-o", "pipefail", "-c", command], env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        try:
            answer, complaint = process.communicate(timeout=COMMAND_TIMEOUT_SECONDS)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
        seconds = time.monotonic() - begin
        if process.returncode != 0:
            raise peers.PeerError(f"`{command}` exits {process.returncode}: {complaint[-300:].strip()}")
        return seconds, answer

    def _first_chunk(self, scene):
        """Known without asking the mount, whose listing is for the scene to pay."""
        return min(os.listdir(peers.LocalFiles(self.setting, scene.configuration).data))


def result(scene, peer_type, samples, error):
    values = {"scene": scene.name, "peer": peer_type.name}
    if error is not None:
        return {**values, "error": error}

    def median(field):
        return statistics.median(sample[field] for sample in samples)

    peaks = [sample["peak_rss_in_bytes"] for sample in samples if sample["peak_rss_in_bytes"] is not None]
    return {
        **values, "seconds": median("seconds"), "all_seconds": [round(sample["seconds"], 4) for sample in samples],
        "mount_seconds": median("mount_seconds"), "requests": median("requests"), "bytes_sent": median("bytes_sent"),
        "peak_rss_in_bytes": max(peaks, default=None),
    }


def chosen_scenes(pattern):
    scenes = [scene for scene in SCENES if pattern.lower() in scene.name.lower()]
    if os.geteuid() == 0:
        return scenes
    return [scene for scene in scenes if not scene.needs_root]


def show(results):
    print(f"\n{results[0]['scene']}", flush=True)
    for values in results:
        print(f"  {values['peer']:18} {report.cells(values)}", flush=True)


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint", required=True, metavar="URL", help="of an s3-origin that serves --inventory")
    parser.add_argument("--inventory", required=True, metavar="FOLDER", help="made with mount-examples/make-sample")
    parser.add_argument("--inventoryfs", required=True, metavar="PATH")
    parser.add_argument("--runs", type=int, default=3, help="of each scene and peer (default: 3)")
    parser.add_argument("--scenes", default="", metavar="TEXT", help="only those whose names have it")
    parser.add_argument("--origin-note", default="", metavar="TEXT", help="what to say about the origin in the table")
    parser.add_argument("--table", metavar="FILE", help="write the Markdown table there, too")
    parser.add_argument("--svg", metavar="FILE", help="draw the bars there")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    return parser.parse_args()


def write_reports(options, versions, results):
    """After each scene, so that a run that is broken off leaves what it has. Returns the table."""
    table = report.markdown(results, versions, options.runs, options.origin_note)
    if options.table:
        pathlib.Path(options.table).write_text(table)
    if options.svg:
        pathlib.Path(options.svg).write_text(report.svg(results, [peer.name for peer in peers.PEERS]))
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(results, indent=1) + "\n")
    return table


def main():
    options = parse_options()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(143))
    results, table = [], ""
    # Where something is still mounted, removing the folder would fail; the mount's end comes first, on any exit.
    with tempfile.TemporaryDirectory(prefix="compare.", ignore_cleanup_errors=True) as scratch:
        setting = peers.Setting(
            options.endpoint, options.inventory, scratch, options.inventoryfs, dict(os.environ, LC_ALL="C"))
        versions = [(peer.name, peer.version(setting), peer.options) for peer in peers.PEERS]
        bench = Bench(setting, options.runs)
        for scene in chosen_scenes(options.scenes):
            results += (latest := bench.measure(scene, peers.PEERS))
            show(latest)
            table = write_reports(options, versions, results)
    if not results:
        sys.exit(f"No scene has {options.scenes!r} in its name.")
    print("\n" + table)
    sys.exit(any("error" in values for values in results))


if __name__ == "__main__":
    main()

"""The project's own S3 server, which counts what it is asked for. A test that counts starts one of its own."""

import dataclasses
import json
import time
import urllib.request

from .processes import ENDS_WITH_US, wait_until
from .seaweedfs import ACCESS_KEY, SECRET_KEY


@dataclasses.dataclass(frozen=True)
class Request:
    """One request as the server saw it. `range` is the half-open range of object bytes that the answer covers."""

    number: int
    connection: int
    method: str
    key: str
    range: tuple
    if_match: str
    status: int
    body_bytes: int


class Origin:
    def __init__(self, lab, binary, root, fault_plan=None, options=()):
        port_file = lab.folder / f"origin-{len(lab.origins)}.port"
        self.log_path = port_file.with_suffix(".log")
        if fault_plan is not None:
            plan = port_file.with_suffix(".faults.json")
            plan.write_text(json.dumps(fault_plan))
            options = ["--faults", plan, *options]
        with open(self.log_path, "wb") as log:
            self.process = lab.spawn(
                *ENDS_WITH_US, binary, "--root", root, "--port", 0, "--port-file", port_file, "--access-key", ACCESS_KEY,
                "--secret-key", SECRET_KEY, *options, stdout=log, stderr=log)
        port = wait_until(lambda: self._port(port_file), "s3-origin to write its port")
        self.endpoint = f"http://127.0.0.1:{port}"

    def _port(self, port_file):
        assert self.process.poll() is None, self.log_path.read_text()
        return port_file.exists() and port_file.read_text().strip()

    def stats(self, query=""):
        """`totals`, `connections` and `objects`; with `?records=1` also `records`."""
        with urllib.request.urlopen(f"{self.endpoint}/-/stats{query}", timeout=10) as answer:
            return json.load(answer)

    def requests(self, key=None):
        """In the order of their arrival, without the byte that each mount asks for of the first chunk."""
        return [request for request in self.all_requests(key) if request.range != (0, 1)]

    def all_requests(self, key=None):
        """In the order of their arrival."""
        return [
            Request(record["number"], record["connection"], record["method"], record["key"],
                    tuple(record["objectBytesAnswered"]) if record.get("objectBytesAnswered") else None,
                    record.get("ifMatch"), record["status"], record["bodyBytesSent"])
            for record in self.stats("?records=1")["records"] if key is None or record["key"] == key
        ]

    def settled_requests(self, key=None):
        """The requests once all have been answered and no more come in: read-ahead goes on when the reader is gone."""
        before = None
        while True:
            stats = self.stats("?records=1")
            if stats["totals"] == before and all(record["isFinished"] for record in stats["records"]):
                return self.requests(key)
            before = stats["totals"]
            time.sleep(0.4)

    def bytes_requested_twice(self, key):
        """Without the byte that each mount asks for of the first chunk."""
        probes = sum(request.range == (0, 1) for request in self.all_requests(key))
        twice = next(item["bytesRequestedTwice"] for item in self.stats()["objects"] if item["key"] == key)
        return max(0, twice - probes)

    def close(self):
        self.process.kill()
        self.process.wait(20)

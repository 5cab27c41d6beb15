"""The project's own S3 server, which counts what it is asked for. A test that counts starts one of its own."""

import json
import urllib.request

from .processes import wait_until
from .seaweedfs import ACCESS_KEY, SECRET_KEY


class Origin:
    def __init__(self, lab, binary, root, options=()):
        port_file = lab.folder / f"origin-{len(lab.origins)}.port"
        self.log_path = port_file.with_suffix(".log")
        with open(self.log_path, "wb") as log:
            self.process = lab.spawn(
                binary, root, "--port", 0, "--port-file", port_file, "--access-key", ACCESS_KEY,
                "--secret-key", SECRET_KEY, *options, stdout=log, stderr=log)
        port = wait_until(lambda: self._port(port_file), "s3-origin to write its port")
        self.endpoint = f"http://127.0.0.1:{port}"

    def _port(self, port_file):
        assert self.process.poll() is None, self.log_path.read_text()
        return port_file.exists() and port_file.read_text().strip()

    def stats(self):
        with urllib.request.urlopen(f"{self.endpoint}/-/stats", timeout=10) as answer:
            return json.load(answer)

    def close(self):
        self.process.kill()
        self.process.wait(20)

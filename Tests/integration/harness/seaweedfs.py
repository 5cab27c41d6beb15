"""A SeaweedFS of our own: master, volume, filer and S3 gateway in one process, all on ports that were free."""

import json
import pathlib
import shutil
import subprocess
import sys
import urllib.error
import urllib.request

import pyarrow.fs

from .inventory import BUCKET
from .processes import ENDS_WITH_US, free_port, is_alive, wait_until

ACCESS_KEY, SECRET_KEY = "AKIDINTEGRATION", "integration+secret/0123456789abcdef"
GRPC_ABOVE = 10_000  # where each server puts its gRPC port
LOG, PROCESS = "log", "process.json"  # in the server's folder


class SeaweedFSProcess:
    """The server. It need not answer yet; whoever uses it waits for that (SeaweedFS)."""

    def __init__(self, folder, environment):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir()
        weed = pathlib.Path(sys.executable).with_name("weed")
        assert weed.exists(), f"no weed beside {sys.executable}: run the tests through Tests/run"
        config = self.folder / "s3.json"
        config.write_text(json.dumps({"identities": [{
            "name": "tests",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "List", "Write", "Tagging"],
        }]}))
        ports = []
        while len(ports) < 4:
            port = free_port(also_above=GRPC_ABOVE)
            # Nor is it another one's gRPC port.
            if all(abs(port - other) not in (0, GRPC_ABOVE) for other in ports):
                ports.append(port)
        self.ports = ports
        master, volume, filer, s3 = ports
        with open(self.folder / LOG, "wb") as log:
            self.process = subprocess.Popen([
                *ENDS_WITH_US, weed, "server", f"-dir={self.folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
                f"-master.port={master}", "-master.volumeSizeLimitMB=1000", "-master.telemetry=false",
                f"-volume.port={volume}", "-volume.max=50",
                f"-filer.port={filer}", f"-filer.localSocket={self.folder}/filer.sock",
                "-s3", f"-s3.port={s3}", f"-s3.config={config}", f"-s3.localSocket={self.folder}/s3.sock",
                "-s3.port.iceberg=0", "-s3.port.lance=0",
            ], env={**environment, "TMPDIR": str(self.folder)}, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        (self.folder / PROCESS).write_text(json.dumps({"pid": self.process.pid, "s3_port": s3}))

    def close(self):
        sockets = self._grpc_sockets()
        self.process.kill()
        self.process.wait(20)
        for path in sockets:
            path.unlink(missing_ok=True)

    def _grpc_sockets(self):
        """Sockets that it puts in the system's temporary folder, where no option can move them, and leaves there."""
        ends = tuple(f"-grpc-{port + GRPC_ABOVE}.sock" for port in self.ports)
        with open("/proc/net/unix") as lines:
            return {pathlib.Path(line.split()[-1]) for line in lines if line.rstrip().endswith(ends)}


class SeaweedFS:
    """What a process that may be another one than the server's parent does with it."""

    def __init__(self, folder):
        self.log_path = folder / LOG
        process = json.loads((folder / PROCESS).read_text())
        self.pid = process["pid"]
        self.endpoint = f"http://127.0.0.1:{process['s3_port']}"

    def wait_until_ready(self):
        try:
            wait_until(self._is_ready, "SeaweedFS to take an object", 180, poll_seconds=0.2)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log_path.read_text()[-3000:]}") from None

    def file_system(self):
        return pyarrow.fs.S3FileSystem(
            access_key=ACCESS_KEY, secret_key=SECRET_KEY, endpoint_override=self.endpoint, scheme="http",
            region="us-east-1", allow_bucket_creation=True, connect_timeout=5, request_timeout=60)

    def _is_ready(self):
        assert is_alive(self.pid), "SeaweedFS ended"
        try:
            urllib.request.urlopen(self.endpoint, timeout=2)
        except urllib.error.HTTPError:
            pass  # it answers: an unsigned request is refused
        except OSError:
            return False
        try:
            store = self.file_system()
            store.create_dir(BUCKET)
            with store.open_output_stream(f"{BUCKET}/ready") as stream:
                stream.write(b"ready")
        except OSError:
            return False
        return True

    def upload(self, *inventories):
        """The manifests, their checksums and their chunks."""
        store = self.file_system()
        for inventory in inventories:
            keys = [*inventory.keys, inventory.manifest_key]
            checksum = inventory.manifest_path.with_name("manifest.checksum")
            if checksum.exists():
                keys.append(str(checksum.relative_to(inventory.root / BUCKET)))
            for key in keys:
                with open(inventory.path(key), "rb") as source, \
                        store.open_output_stream(f"{BUCKET}/{key}", compression=None) as stream:
                    shutil.copyfileobj(source, stream, 8 << 20)

"""The inventories that the tests mount, made by mount-examples/make-sample, and hand-made manifests."""

import dataclasses
import hashlib
import json
import pathlib
import random
import subprocess
import sys

REPOSITORY = pathlib.Path(__file__).parents[3]
MAKE_SAMPLE = REPOSITORY / "mount-examples" / "make-sample"
BUCKET = "inventory-bucket"
CREATED_SECONDS = 1795309200  # 2026-11-22T01:00Z


@dataclasses.dataclass(frozen=True)
class Inventory:
    """One manifest and its chunks, as files under `root`, the folder of buckets."""

    root: pathlib.Path
    manifest_key: str

    @property
    def url(self):
        return f"s3://{BUCKET}/{self.manifest_key}"

    @property
    def manifest_path(self):
        return self.path(self.manifest_key)

    @property
    def manifest(self):
        return json.loads(self.manifest_path.read_bytes())

    @property
    def keys(self):
        return [file["key"] for file in self.manifest["files"]]

    @property
    def chunks(self):
        """name in data/ -> the local file."""
        return {pathlib.PurePath(key).name: self.path(key) for key in sorted(self.keys)}

    @property
    def size_in_bytes(self):
        return sum(file["size"] for file in self.manifest["files"])

    @property
    def data(self):
        return self.path(self.keys[0]).parent

    def path(self, key):
        return self.root / BUCKET / key

    def key(self, name):
        """That of a chunk, by its name in data/."""
        return next(key for key in self.keys if pathlib.PurePath(key).name == name)


def make_inventories(root, *options, name="daily"):
    """(CSV inventory, Parquet inventory); without chunks of a kind its manifest does not exist."""
    subprocess.run([sys.executable, MAKE_SAMPLE, root, "--name", name, *map(str, options)], check=True,
                   stdout=subprocess.DEVNULL, timeout=3600)
    return tuple(
        Inventory(root, f"inv/src-bucket/{kind}-{name}/2026-11-22T01-00Z/manifest.json")
        for kind in ("csv", "parquet"))


def make_random_inventory(root, name, chunks, mib):
    """Chunks of random bytes, for readers that only compare them. Sizes in MiB."""
    return write_manifest(root, [
        entry(root, f"inv/src-bucket/csv-{name}/data/{number:02}.csv.gz", random.Random(number).randbytes(mib << 20))
        for number in range(chunks)], name=f"csv-{name}")


def write_manifest(root, files, *, name="hand-made", checksum=True, **fields):
    """A manifest with these `files` entries, and its checksum. Fields given as None are left out."""
    key = f"inv/src-bucket/{name}/2026-11-22T01-00Z/manifest.json"
    content = {
        "sourceBucket": "src-bucket",
        "destinationBucket": f"arn:aws:s3:::{BUCKET}",
        "version": "2016-11-30",
        "creationTimestamp": str(CREATED_SECONDS * 1000),
        "fileFormat": "CSV",
        "fileSchema": "Bucket, Key, Size",
        "files": files,
    }
    content.update(fields)
    content = {field: value for field, value in content.items() if value is not None}
    return write_manifest_bytes(root, key, json.dumps(content).encode(), checksum)


def write_manifest_bytes(root, key, data, checksum=True):
    inventory = Inventory(root, key)
    inventory.manifest_path.parent.mkdir(parents=True, exist_ok=True)
    inventory.manifest_path.write_bytes(data)
    if checksum:
        digest = hashlib.md5(data).hexdigest()
        inventory.manifest_path.with_name("manifest.checksum").write_text(digest + "\n")
    return inventory


def entry(root, key, data):
    """Writes the object and gives the entry of `files` that names it."""
    path = pathlib.Path(f"{root}/{BUCKET}/{key}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return {"key": key, "size": len(data), "MD5checksum": hashlib.md5(data).hexdigest()}

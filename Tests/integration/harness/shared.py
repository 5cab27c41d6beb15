"""What all processes of a test run share, so that it is made once: inventories, and a SeaweedFS.

A run has a main process, which with pytest-xdist only gives out the tests, and workers. The main process makes the shared
folder, starts the servers and ends them; whoever first needs what is in it makes that, and the others wait.
"""

import fcntl
import os
import pathlib
import pickle
import shutil
import tempfile

from .seaweedfs import SeaweedFSProcess

FOLDER = "INVENTORYFS_TESTS_SHARED"
_servers = []


def is_main_process(config):
    return not hasattr(config, "workerinput")


def folder():
    return pathlib.Path(os.environ[FOLDER])


def start():
    # Open to other users, who compare what they read with the files here.
    os.environ[FOLDER] = tempfile.mkdtemp(prefix="inventoryfs-shared.")
    folder().chmod(0o755)
    _servers.append(SeaweedFSProcess(folder() / "seaweedfs", {"PATH": os.environ["PATH"], "HOME": str(folder())}))


def end():
    while _servers:
        _servers.pop().close()
    if path := os.environ.pop(FOLDER, None):
        shutil.rmtree(path)


def made(name, make):
    """What `make(root)` returns, called once in a run, with a path where it may make a folder of that name."""
    root, result = folder() / name, folder() / f"{name}.result"
    with open(folder() / f"{name}.lock", "w") as lock:
        # Closing the file gives the lock back; after a failure the next process tries anew.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not result.exists():
            shutil.rmtree(root, ignore_errors=True)
            content = pickle.dumps(make(root))
            unfinished = result.with_suffix(".unfinished")
            unfinished.write_bytes(content)
            unfinished.rename(result)
        return pickle.loads(result.read_bytes())

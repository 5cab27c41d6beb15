"""Mounting by mount(8) and /etc/fstab, and `-o` lists."""

import os
import stat

import pytest

from harness import processes
from harness.lab import NOBODY, needs_root
from harness.mount import Mount
from harness.processes import wait_until


@needs_root
def test_a_line_in_fstab_mounts(lab, seaweedfs, csv_inventory):
    mount = Mount(lab, lab.mountpoint(), lab.folder / "cache")
    lab.mounts.append(mount)
    fstab = lab.folder / "fstab"
    # With the type fuse.inventoryfs the program would have to be installed; PROGRAM# in front of the source names it.
    fstab.write_text(
        f"{lab.binary}#{csv_inventory.url} {mount.path} fuse _netdev,nofail,x-systemd.mount-timeout=90,nosuid,allow_other,"
        f"cache-dir={mount.cache},cache_size=64MiB,endpoint-url={seaweedfs.endpoint} 0 0\n")
    mount.start(["mount", "--fstab", str(fstab), str(mount.path)], lab.environment, foreground=False)
    assert sorted(os.listdir(mount.data)) == sorted(csv_inventory.chunks)
    for name, path in csv_inventory.chunks.items():
        assert lab.run("cmp", mount.data / name, path, user=NOBODY).returncode == 0, "allow_other"
    assert mount.allocated_bytes() > 0, "cache-dir"
    assert lab.run("umount", mount.path).returncode == 0
    wait_until(lambda: not processes.is_alive(mount.pid), "the daemon to end")


@pytest.mark.parametrize("lists", [
    ["-o", "ro,file_mode=0400,dir-mode=0500"], ["-ofile-mode=0400", "-o", "dir_mode=0500,defaults"],
    ["-o", "", "-o", "file-mode=0400,,dir_mode=0500,comment=a=b"]], ids=str)
@pytest.mark.parametrize("command", [["mount"], []], ids=["mount", "no command"])
def test_options_of_a_list_are_flags(lab, csv_inventory, command, lists):
    path = lab.mountpoint()
    result = lab.inventoryfs(*command, csv_inventory.manifest_path, path, *lists)
    assert result.returncode == 0, result.stderr
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o500
    assert stat.S_IMODE(os.stat(path / "manifest.json").st_mode) == 0o400
    assert lab.inventoryfs("unmount", path).returncode == 0


def test_a_comma_in_a_value_is_escaped(lab, seaweedfs, csv_inventory):
    path = lab.mountpoint()
    result = lab.inventoryfs("mount", csv_inventory.url, path, "--endpoint-url", seaweedfs.endpoint,
                             "-o", rf"cache-dir={lab.folder}/one\,two\\three,cache-size=16MiB")
    assert result.returncode == 0, result.stderr
    assert (lab.folder / r"one,two\three").is_dir()
    assert lab.inventoryfs("unmount", path).returncode == 0


@pytest.mark.parametrize("options, complaint", [
    (["-o", "allow_root"], "'allow_root' in -o"), (["-o", "cache-size=much"], "much"), (["-o", "uid"], "'uid' in -o"),
    (["-o"], "-o"), (["-fo", "allow_other"], "-o")], ids=str)
def test_a_list_that_is_wrong_is_refused_by_name(lab, csv_inventory, options, complaint):
    result = lab.inventoryfs("mount", csv_inventory.manifest_path, lab.mountpoint(), *options)
    assert result.returncode == 1
    assert result.stderr.startswith("Error: ") and complaint in result.stderr.splitlines()[0]
    assert not processes.is_mounted(lab.folder / "mnt")


def test_what_follows_two_dashes_is_no_option(lab, csv_inventory):
    path = lab.mountpoint("-o")
    result = lab.run(lab.binary, "mount", "--", csv_inventory.manifest_path, path.name)
    assert result.returncode == 0, result.stderr
    assert sorted(os.listdir(path / "data")) == sorted(csv_inventory.chunks)
    assert lab.inventoryfs("unmount", path).returncode == 0


@needs_root
def test_without_HOME_it_is_looked_up(lab, seaweedfs, csv_inventory):
    """As services and mounts at boot are started. The home of nobody does not exist, and its name is in the message."""
    path = lab.mountpoint()
    os.chown(path, NOBODY, NOBODY)
    result = lab.run(lab.binary_for_everybody(), "mount", csv_inventory.url, path, "--endpoint-url", seaweedfs.endpoint,
                     user=NOBODY, HOME=None)
    assert result.returncode == 1
    assert os.path.expanduser("~nobody") + "/.cache/inventoryfs" in result.stderr

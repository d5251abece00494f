"""A disk as it is named in Docker, and read back from there."""

from __future__ import annotations

import subprocess

import pytest

from infra.disk import SCRIPT, Disk, Verb, folder_of, is_folder, render, volume_options

ID = "u-0123456789"


@pytest.mark.parametrize("folder", ["/var/lib/zaki/volumes", "/with a space/ünï", f"/srv/{ID}"])
def test_a_volumes_options_tell_the_folder_of_its_disk(folder: str) -> None:
    assert folder_of(volume_options(folder, ID), ID) == folder
    assert Disk(ID, folder, 64, 1000).mounted_at == f"{folder}/{ID}"
    assert folder_of(volume_options(folder, ID), "u-9999999999") is None


@pytest.mark.parametrize("options", [{}, {"type": "tmpfs", "device": "tmpfs"}, {"device": f"/a/{ID}/data"}])
def test_other_volumes_have_no_disk(options: dict[str, str]) -> None:
    assert folder_of(options, ID) is None


@pytest.mark.parametrize("text", ["", "/", "//a", "a", "./a", "/a/../b", "/a/./b", "/a/", "/a\n", "/a\x7f", "/" * 2000])
def test_no_folders(text: str) -> None:
    assert not is_folder(text)


@pytest.mark.parametrize("verb", list(Verb))
def test_both_scripts_are_sound_shell(verb: Verb) -> None:
    for script in (render(verb), SCRIPT):
        done = subprocess.run(["/bin/sh", "-n"], input=script, text=True, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")

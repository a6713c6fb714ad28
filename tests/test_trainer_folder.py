"""Folders named by tag, as they are found on people's disks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ripeloop.errors import SettingsError
from trainer.learning.folder import find, read


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def test_a_folder_is_a_tag_and_its_images_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    put(tmp_path, "ripe/2.PNG", "ripe/1.jpg", "green/1.jpeg", "green/deeper/9.jpg")
    found = find(tmp_path)
    assert list(found.images) == ["green", "ripe"]
    assert [path.name for path in found.images["ripe"]] == ["1.jpg", "2.PNG"]
    assert found.in_order == [tmp_path / "green/1.jpeg", tmp_path / "ripe/1.jpg", tmp_path / "ripe/2.PNG"]
    assert not found.left_out


def test_files_that_are_not_images_are_left_out_and_named(tmp_path: Path) -> None:
    put(tmp_path, "ripe/1.jpg", "ripe/notes.txt", "readme.md", "loose.jpg", ".hidden/1.jpg", "ripe/.DS_Store")
    found = find(tmp_path)
    assert list(found.images) == ["ripe"]
    assert set(found.left_out) == {tmp_path / "ripe/notes.txt", tmp_path / "readme.md", tmp_path / "loose.jpg"}


def test_a_tag_without_images_is_still_a_tag(tmp_path: Path) -> None:
    put(tmp_path, "ripe/1.jpg", "empty/notes.txt")
    assert find(tmp_path).images["empty"] == ()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"there is no folder .*nowhere"):
        find(tmp_path / "nowhere")


def test_images_without_folders_are_told_where_to_go(tmp_path: Path) -> None:
    put(tmp_path, "1.jpg", "2.jpg")
    with pytest.raises(SettingsError, match="put them into folders in it, named by tag"):
        find(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    put(tmp_path, "ripe/1.jpg")
    (tmp_path / "ripe/1.jpg").chmod(0)
    with pytest.raises(SettingsError, match=r"1\.jpg cannot be read: Permission denied"):
        read(tmp_path / "ripe/1.jpg")


def test_a_file_that_went_away_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"gone\.jpg cannot be read"):
        read(tmp_path / "gone.jpg")

"""What is read is never written over, whatever name it is given and however much it is forced."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from facemorph_core.disk.output import check_apart, check_writable
from facemorph_core.errors import OutputError


def same(photo: Path) -> Path:
    return photo


def around(photo: Path) -> Path:
    return photo.parent / "inner" / ".." / photo.name


def link(photo: Path) -> Path:
    (photo.parent / "link.png").symlink_to(photo)
    return photo.parent / "link.png"


def second_name(photo: Path) -> Path:
    os.link(photo, photo.parent / "second.png")
    return photo.parent / "second.png"


def linked_folder(photo: Path) -> Path:
    (photo.parent / "folder").symlink_to(photo.parent)
    return photo.parent / "folder" / photo.name


@pytest.mark.parametrize("named", [same, around, link, second_name, linked_folder])
@pytest.mark.parametrize("force", [False, True])
def test_an_input_is_no_output_by_any_name(
    tmp_path: Path, named: Callable[[Path], Path], force: bool
) -> None:
    (tmp_path / "inner").mkdir()
    photo = tmp_path / "photo.png"
    photo.write_bytes(b"the only one")
    with pytest.raises(OutputError, match="is read here") as refused:
        check_writable(named(photo), force=force, inputs=[tmp_path / "other.png", photo])
    assert "--force" not in str(refused.value.hint)


def test_what_is_no_input_is_an_output_as_before(tmp_path: Path) -> None:
    photo, old = tmp_path / "photo.png", tmp_path / "old.png"
    photo.write_bytes(b"x")
    old.write_bytes(b"x")
    check_writable(old, force=True, inputs=[photo])
    check_writable(tmp_path / "new.png", inputs=[photo, tmp_path / "new.png"])
    with pytest.raises(OutputError, match="exists already"):
        check_writable(old, inputs=[photo])


def test_names_that_no_file_can_have_are_nothing_that_is_read(tmp_path: Path) -> None:
    check_apart([tmp_path / "a\0b", tmp_path / ("n" * 300)], [tmp_path / ("n" * 300)])

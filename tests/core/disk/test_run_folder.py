"""The folder of long work: whose it is, where the work stands, how it failed, how it is named."""

from __future__ import annotations

import errno
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facemorph_core.disk.resume import claim
from facemorph_core.disk.run_folder import (
    held_alone,
    is_taken,
    noting_failure,
    read_values,
    reason,
    taken_and_free,
    write_values,
)
from facemorph_core.errors import OutputError

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


@given(values=st.dictionaries(st.text(), PLAIN | st.dictionaries(st.text(), PLAIN)))
def test_what_is_written_is_read(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("run")
    assert read_values(folder) is None
    for each in ({"older": True}, values):
        write_values(folder, each)
        assert read_values(folder) == each
    assert [file.name for file in folder.iterdir()] == ["state.json"]


def test_a_file_in_the_place_of_the_folder_has_no_state(tmp_path):
    (tmp_path / "run").write_text("important")
    assert read_values(tmp_path / "run") is None


@pytest.mark.parametrize("content", ["", '{"a": 1', "[1]", "null", "[" * 99_999], ids=len)
def test_what_is_no_object_is_no_state(tmp_path, content):
    (tmp_path / "state.json").write_text(content)
    with pytest.raises(ValueError):  # noqa: PT011 - the caller finds the words
        read_values(tmp_path)


def test_names_are_counted_up_to_the_first_gap(tmp_path):
    for name in ("a", "a-2", "a-4"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    assert taken_and_free(tmp_path, "a") == ([tmp_path / "a", tmp_path / "a-2"], tmp_path / "a-3")
    assert taken_and_free(tmp_path / "none", "a") == ([], tmp_path / "none" / "a")


def test_what_a_lock_leaves_takes_no_folder(tmp_path):
    with held_alone(tmp_path / "a", other="work", hint="wait"):
        assert not is_taken(tmp_path / "a")
        with (
            pytest.raises(OutputError, match="in use by another work") as told,
            held_alone(tmp_path / "a", other="work", hint="wait"),
        ):
            pass
    assert told.value.hint == "wait"
    claim(tmp_path / "a", {"of": 1}, what="batch")
    assert is_taken(tmp_path / "a")
    assert json.loads((tmp_path / "a" / "batch.json").read_text()) == {"of": 1}


def test_a_note_that_cannot_be_written_hides_nothing(tmp_path):
    def full(error: BaseException) -> None:
        raise OutputError(f"no room for {error}")

    with pytest.raises(ValueError, match="the cause"), noting_failure(full):
        raise ValueError("the cause")


def test_a_reason_is_a_sentence_and_what_to_do():
    assert reason(OutputError("no room", hint="make some")) == "no room\n hint: make some"
    assert reason(OSError(errno.ENOSPC, "No space", "/runs/a")).startswith(
        "/runs/a cannot be written: the disk is full\n hint: "
    )
    assert reason(KeyError("a")) == "KeyError: 'a'"

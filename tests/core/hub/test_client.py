"""The client's parts that need no hub: references, tokens, and downloads from a made-up stream."""

import hashlib
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facemorph_core.errors import (
    HubBusy,
    HubError,
    HubUnreachable,
    HubUnusable,
    InvalidReference,
)
from facemorph_core.hub import patience
from facemorph_core.hub.download import MAX_BYTES, OVERALL_SECONDS, check_announced, download
from facemorph_core.hub.patience import HubAway
from facemorph_core.hub.proto import hub_pb2
from facemorph_core.hub.reference import HubAddress, HubReference, checked_name
from facemorph_core.hub.token import bound_token, checked_token, read_token_file, token_for
from tests.core.systems import on_posix

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)


@given(name=names, version=st.integers(1, 999_999_999), port=st.integers(1, 65535))
def test_a_reference_is_read_as_written(name, version, port):
    parsed = HubReference.parse(f"hub://models.example.org:{port}/{name}@{version}")
    assert parsed == HubReference(HubAddress("models.example.org", port), name, version)


@given(name=names)
def test_no_version_is_the_latest(name):
    bare = HubReference.parse(f"hub://localhost/{name}")
    assert bare == HubReference.parse(f"hub://localhost/{name}@latest")
    assert bare.version == 0
    assert bare.address.port == 8765


DIGEST = "0123456789abcdef" * 4


@given(name=names, version=st.integers(1, 999_999_999), plain=st.booleans())
def test_a_pinned_reference_is_read_as_it_is_written(name, version, plain):
    reference = HubReference(HubAddress("127.0.0.1", 9, plain), name, version, DIGEST)
    assert reference.url.endswith(f"://127.0.0.1:9/{name}@{version}#{DIGEST}")
    assert HubReference.parse(reference.url) == reference
    assert (
        HubReference.parse(
            reference.url.upper()
            .replace("HUB", "hub", 1)
            .replace("+INSECURE", "+insecure")
            .replace(name.upper(), name)
        )
        == reference
    )


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("@3#", "64 hexadecimal digits"),
        ("@3#abc", "64 hexadecimal digits"),
        (f"@3#{DIGEST[:-1]}", "64 hexadecimal digits"),
        (f"@3#{DIGEST}0", "64 hexadecimal digits"),
        (f"@3#{DIGEST[:-1]}g", "64 hexadecimal digits"),
        (f"@3#{DIGEST}#{DIGEST}", "64 hexadecimal digits"),
        (f"#{DIGEST}", "one version"),
        (f"@latest#{DIGEST}", "one version"),
    ],
)
def test_a_digest_is_whole_and_of_one_version(end, words):
    with pytest.raises(InvalidReference, match=words):
        HubReference.parse(f"hub://host:1/faces{end}")


def test_plain_text_to_another_machine_cannot_even_be_made():
    with pytest.raises(InvalidReference, match="plain text is for a hub on this machine"):
        HubAddress("models.example.org", 1, plain_text=True)


@pytest.mark.parametrize("text", ["127.0.0.1:9", "hub://127.0.0.1:9", "hub://127.0.0.1:9/"])
def test_an_address_may_lack_its_scheme(text):
    assert HubAddress.parse(text) == HubAddress("127.0.0.1", 9)


def test_an_ipv6_address_keeps_its_brackets_and_loses_its_colons_in_the_cache():
    address = HubAddress.parse("hub+insecure://[::1]:9000")
    assert str(address) == "[::1]:9000"
    assert address.folder == "--1_9000"
    assert address.plain_text
    assert address.is_loopback


@pytest.mark.parametrize(
    "text",
    [
        "hub://host:1/../../etc/passwd",
        "hub://host:1/..",
        "hub://host:1/.hidden",
        "hub://host:1/a/b",
        "hub://host:1/a%2fb",
        "hub://host:1/",
        "hub://host:1",
        "hub://host:1/a@0",
        "hub://host:1/a@-1",
        "hub://host:1/a@newest",
        "hub://host:1/a@3@4",
        "hub://host:1/" + "a" * 65,
        "hub://host:port/a",
        "hub://host:99999/a",
        "hub://user@host:1/a",
        "hub://../a",
        "hub://a..b/a",
        "hub://host-/../a",
        f"hub://{'a' * 64}.example.org/a",
        f"hub://{'a.' * 126}aa/a",
        "hub:///a",
        "hub://ho st/a",
        "http://host:1/a",
        "a.facemorph",
    ],
)
def test_what_is_no_reference_is_refused(text):
    with pytest.raises(InvalidReference):
        HubReference.parse(text)


@given(text=st.text("ab-.", min_size=1, max_size=200))
def test_every_host_that_is_taken_can_be_looked_up(text):
    try:
        host = HubAddress.parse(f"hub://{text}").host
    except InvalidReference:
        return
    assert host.encode("idna")  # as Python does before it asks; it refuses what no name can be


@pytest.mark.parametrize("host", ["models.example.org", "models.example.org.", "a" * 63, "a-b"])
def test_a_host_that_can_be_is_taken(host):
    assert HubAddress.parse(host).host == host


def test_plain_text_to_another_machine_is_refused():
    with pytest.raises(InvalidReference, match="plain text is for a hub on this machine"):
        HubReference.parse("hub+insecure://models.example.org:8765/faces")


@given(text=st.text(max_size=70))
def test_a_name_is_always_one_plain_folder(text):
    try:
        name = checked_name(text)
    except InvalidReference:
        return
    assert not set(name) & set("/\\\0\n")
    assert not name.startswith(".")


# --- tokens ----------------------------------------------------------------------------------


@on_posix
def test_a_token_file_is_its_owners_alone(tmp_path):
    file = tmp_path / "token"
    file.write_text("correct-horse-battery\n")
    file.chmod(0o600)
    assert read_token_file(file) == "correct-horse-battery"
    file.chmod(0o640)
    with pytest.raises(HubError, match="others on this machine may read") as caught:
        read_token_file(file)
    assert "chmod 600" in caught.value.hint


@pytest.mark.parametrize("token", ["", "short", "two words that are long", "ümläut-ümläut-ümläut"])
def test_a_poor_token_is_refused_and_not_repeated(token):
    with pytest.raises(HubError, match="no usable token") as caught:
        checked_token(token, source="the file")
    assert not token or token not in str(caught.value)


def test_a_missing_token_file_comes_with_the_way_to_make_one(tmp_path):
    with pytest.raises(HubError, match="cannot be read") as caught:
        read_token_file(tmp_path / "none")
    assert "token_urlsafe" in caught.value.hint


SECRET, OTHER = "correct-horse-battery", "another-secret-word=="
HERE = HubAddress("models.example.org", 8765)


@pytest.mark.parametrize(
    ("said", "token"),
    [
        (f"models.example.org:8765={SECRET}", SECRET),
        (f"MODELS.example.ORG:8765={SECRET}", SECRET),
        (f"other.example.org:8765={OTHER} models.example.org:8765={SECRET}", SECRET),
        (f"other.example.org:8765={OTHER}\n\nmodels.example.org:8765={SECRET}\n", SECRET),
        (f"models.example.org:8766={SECRET}", None),
        (f"example.org:8765={SECRET}", None),
        (f"models.example.org.evil.org:8765={SECRET}", None),
        (f"[::1]:8765={SECRET}", None),
        ("", None),
    ],
)
def test_a_token_is_for_the_hub_that_it_names(said, token):
    assert bound_token(said, HERE, source="$X") == token


def test_a_token_may_hold_an_equals_sign_and_an_address_brackets():
    address = HubAddress("::1", 8765)
    assert bound_token(f"[::1]:8765={OTHER}", address, source="$X") == OTHER


@pytest.mark.parametrize(
    "said",
    [
        SECRET,
        OTHER,
        f"models.example.org={SECRET}",
        f"other.example.org:8765={OTHER} {SECRET}",
        f"hub://models.example.org:8765={SECRET}",
        f"models.example.org:eight={SECRET}",
        f"{SECRET}:8765",
        f"={SECRET}",
        f"user@models.example.org:8765={SECRET}",
    ],
)
def test_a_token_of_no_hub_is_refused_with_the_way_to_write_it(said):
    with pytest.raises(HubError, match="does not say for which hub") as caught:
        bound_token(said, HERE, source="$X")
    assert "HOST:PORT=TOKEN" in caught.value.hint
    assert SECRET not in str(caught.value) + caught.value.hint
    assert OTHER not in str(caught.value) + caught.value.hint


def test_a_poor_token_of_a_hub_is_refused_and_not_repeated():
    with pytest.raises(HubError, match="no usable token") as caught:
        bound_token("models.example.org:8765=short", HERE, source="$X")
    assert "short" not in str(caught.value)


def test_a_file_that_is_named_for_one_call_may_hold_the_token_alone(tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{SECRET}\n")
    file.chmod(0o600)
    assert token_for(file, HERE) == SECRET
    file.write_text(f"other.example.org:8765={OTHER}\nmodels.example.org:8765={SECRET}\n")
    assert token_for(file, HERE) == SECRET
    with pytest.raises(HubError, match=r"no token for third\.example\.org:8765"):
        token_for(file, HubAddress("third.example.org", 8765))


# --- downloads -------------------------------------------------------------------------------


class Clock:
    """Time that passes when it is told to, and while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Stream:
    """A hub's side of a download of ``content``; breaks off after each number of ``breaks``."""

    def __init__(self, content: bytes, *, breaks: tuple[int, ...] = (), chunk: int = 7) -> None:
        self.content, self.breaks, self.chunk = content, list(breaks), chunk
        self.offsets: list[int] = []

    def __call__(self, offset: int):
        self.offsets.append(offset)
        left = self.breaks.pop(0) if self.breaks else len(self.content) + 1
        header = hub_pb2.Header(version=1, size=len(self.content), sha256=sha256(self.content))
        yield hub_pb2.Chunk(header=header)
        while offset < len(self.content):
            if left <= 0:
                raise HubUnreachable("gone")
            data = self.content[offset : offset + min(self.chunk, left)]
            left -= len(data)
            offset += len(data)
            yield hub_pb2.Chunk(data=data)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def run(stream, partial, content: bytes, *, clock: Clock | None = None, **more) -> None:
    clock = clock or Clock()
    whole = {"size": len(content), "sha256": sha256(content)}
    download(stream, partial, **whole, clock=clock, sleep=clock.sleep, **more)


@given(content=st.binary(min_size=1, max_size=200), chunk=st.integers(1, 50), data=st.data())
def test_however_often_it_breaks_off_the_bytes_are_the_bytes(
    tmp_path_factory, content, chunk, data
):
    partial = tmp_path_factory.mktemp("fetch") / "partial"
    partial.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    breaks = data.draw(st.lists(st.integers(1, 60), max_size=8))
    run(Stream(content, breaks=tuple(breaks), chunk=chunk), partial, content)
    assert partial.read_bytes() == content


def test_what_is_there_is_not_asked_for_again(tmp_path):
    content = bytes(range(100))
    partial = tmp_path / "partial"
    partial.write_bytes(content[:60])
    stream = Stream(content, breaks=(10,))
    run(stream, partial, content)
    assert stream.offsets == [60, 70]


def test_it_gives_up_when_nothing_comes_and_keeps_what_it_has(tmp_path):
    content = bytes(range(100))
    partial = tmp_path / "partial"
    stream = Stream(content, breaks=(30, 0, 0, 0, 0, 0))
    with pytest.raises(HubUnreachable):
        run(stream, partial, content)
    assert partial.read_bytes() == content[:30]
    assert stream.offsets == [0, 30, 30, 30]


def test_a_damaged_beginning_is_fetched_again(tmp_path):
    content = bytes(range(100))
    partial = tmp_path / "partial"
    for beginning in (b"x" * 40, b"x" * 100, b"x" * 140):
        partial.write_bytes(beginning)
        run(Stream(content), partial, content)
        assert partial.read_bytes() == content


def test_other_bytes_than_announced_are_refused_and_removed(tmp_path):
    content, partial = bytes(range(100)), tmp_path / "partial"
    stream = Stream(bytes(100))
    with pytest.raises(HubError, match="changed at the hub"):
        run(stream, partial, content)

    class Liar(Stream):
        def __call__(self, offset):
            chunks = super().__call__(offset)
            yield next(chunks)
            yield from (hub_pb2.Chunk(data=bytes(len(c.data))) for c in chunks)

    with pytest.raises(HubError, match="does not have the announced SHA-256"):
        run(Liar(content), partial, content)
    assert not partial.exists()


def test_more_bytes_than_announced_are_refused(tmp_path):
    content = bytes(range(100))

    def endless(offset):
        yield next(Stream(content)(offset))
        while True:
            yield hub_pb2.Chunk(data=b"more" * 5)

    with pytest.raises(HubError, match="more bytes than it announced"):
        run(endless, tmp_path / "partial", content)
    assert (tmp_path / "partial").stat().st_size <= 100


def busy(content: bytes, clock: Clock, *, until: float):
    """A hub that has no room until then."""
    calls = []

    def stream(offset):
        calls.append(offset)
        if clock.now < until:
            raise HubBusy("the hub is busy")
        yield from Stream(content)(offset)

    return stream, calls


def test_a_busy_hub_is_asked_until_patience_ends_and_that_is_said_once(tmp_path, caplog):
    content, clock = bytes(range(100)), Clock()
    partial = tmp_path / "partial"
    partial.write_bytes(content[:40])
    stream, calls = busy(content, clock, until=3500)
    run(stream, partial, content, clock=clock)
    assert set(calls) == {40}
    assert partial.read_bytes() == content
    assert caplog.messages == ["the hub is busy; asking again for up to 60 min"]

    stream, calls = busy(content, clock, until=1e9)
    began = clock.now
    with pytest.raises(HubBusy):
        run(stream, tmp_path / "other", content, clock=clock)
    assert clock.now - began == pytest.approx(OVERALL_SECONDS)
    assert 300 < len(calls) < 3000


def test_a_hub_that_does_not_even_say_that_it_is_busy_is_left_sooner(caplog):
    clock = Clock()
    one = patience.Retries(OVERALL_SECONDS, clock, clock.sleep)
    while clock.now < patience.AWAY_SECONDS:
        one.after(HubAway("it starts"))
    with pytest.raises(HubAway):
        one.after(HubAway("it starts"))
    assert clock.now == pytest.approx(patience.AWAY_SECONDS)
    assert caplog.messages == ["it starts; asking again for up to 2 min"]


def test_a_hub_that_says_that_it_is_busy_is_there():
    clock = Clock()
    one = patience.Retries(OVERALL_SECONDS, clock, clock.sleep)
    while clock.now < 10 * patience.AWAY_SECONDS:
        one.after(HubAway("it stops") if len(clock.slept) % 4 else HubBusy("full"))


def test_a_crowd_at_a_hub_on_a_slow_network_is_served_to_the_last(tmp_path):
    """200 readers of 20.8 MB over 100 Mbit/s, 16 at a time: the last waits for all the others."""
    turn, clock = 16 * 20.8e6 * 8 / 100e6, Clock()
    content = bytes(100)
    stream, _ = busy(content, clock, until=200 / 16 * turn)
    run(stream, tmp_path / "partial", content, clock=clock)
    assert clock.now > 2 * patience.AWAY_SECONDS


def test_patience_begins_anew_when_something_came(tmp_path):
    content, clock, calls = bytes(100_000), Clock(), []

    def stream(offset):
        calls.append(offset)
        if len(calls) % 12:  # at most 95 s of pauses
            raise HubAway("it starts")
        yield from list(Stream(content, chunk=10_000)(offset))[:2]

    run(stream, tmp_path / "partial", content, clock=clock)
    assert clock.now > 2 * patience.AWAY_SECONDS


def test_a_crowd_that_was_sent_away_does_not_come_back_together():
    def pauses() -> list[float]:
        clock = Clock()
        one = patience.Retries(OVERALL_SECONDS, clock, clock.sleep)
        for _ in range(12):
            one.after(HubBusy("full"))
        return clock.slept

    crowd = [pauses() for _ in range(200)]
    longest = [max(each) for each in zip(*crowd, strict=True)]
    bounds = [min(patience.WAIT_PAUSES[0] * 2**n, patience.WAIT_PAUSES[1]) for n in range(12)]
    for number, bound in enumerate(bounds):
        assert bound / 2 < longest[number] <= bound
        assert len({round(each[number], 3) for each in crowd}) > 50


def test_what_will_not_pass_is_not_tried_again_and_what_is_down_a_few_times():
    clock = Clock()
    one = patience.Retries(OVERALL_SECONDS, clock, clock.sleep)
    with pytest.raises(HubUnusable):
        one.after(HubUnusable("another certificate"))
    assert clock.slept == []
    for _ in range(patience.TRIES - 1):
        one.after(HubUnreachable("down"))
    with pytest.raises(HubUnreachable):
        one.after(HubUnreachable("down"))
    assert clock.now < 3


def dripping(content: bytes, clock: Clock, *, seconds: float, drops: int):
    """A hub that sends a byte every so many seconds, and breaks off after so many of them."""
    calls = []

    def stream(offset):
        calls.append(offset)
        yield next(Stream(content)(0))
        for at in range(offset, min(offset + drops, len(content))):
            clock.now += seconds
            yield hub_pb2.Chunk(data=content[at : at + 1])
        raise HubUnreachable("gone")

    return stream, calls


def test_a_hub_that_drips_is_given_up(tmp_path):
    content, clock = bytes(1000), Clock()
    stream, calls = dripping(content, clock, seconds=1, drops=50)
    with pytest.raises(HubUnreachable):
        run(stream, tmp_path / "partial", content, clock=clock)
    assert calls == [0, 50, 100]


def test_a_download_has_an_end_however_well_it_goes(tmp_path):
    content, clock = bytes(10**6), Clock()
    stream, calls = dripping(content, clock, seconds=1 / 4000, drops=400_000)
    with pytest.raises(HubUnreachable, match="not over after 20 s") as caught:
        run(stream, tmp_path / "partial", content, clock=clock, seconds=20)
    assert "goes on" in caught.value.hint
    assert calls == [0]
    assert 0 < (tmp_path / "partial").stat().st_size < 100_000
    run(Stream(content, chunk=10**6), tmp_path / "partial", content)


def test_progress_is_told_in_bytes(tmp_path):
    content, told = bytes(range(100)), []
    run(Stream(content), tmp_path / "p", content, progress=lambda *now: told.append(now))
    assert told[-1] == (100, 100)
    assert told == sorted(told)


@pytest.mark.parametrize(
    ("size", "digest"),
    [(0, "0" * 64), (MAX_BYTES + 1, "0" * 64), (5, ""), (5, "../" * 20), (5, "G" * 64)],
)
def test_an_impossible_announcement_is_refused(size, digest):
    with pytest.raises(HubError, match="cannot be a bundle"):
        check_announced(size, digest)


def test_the_command_line_loads_no_grpc_before_it_asks():
    code = (
        "import sys; import facemorph_core.cli.hub, facemorph_core.bundle.find; "
        "sys.exit('grpc' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Runs a command and tells whom it and all its descendants asked for, and what files they made.

strace sees the system calls, and so native code, static programs and daemons, which no import hook,
audit hook or preloaded library does. The command runs in a network of its own which looks like one
that leads out, so that nobody keeps quiet for want of a network; whatever is sent there is lost.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

NETWORK = ("connect", "sendto", "sendmsg", "sendmmsg")
OPENING = ("open", "openat", "openat2")
MAKING = (
    *("creat", "mkdir", "mkdirat", "mknod", "mknodat", "rename", "renameat", "renameat2"),
    *("link", "linkat", "symlink", "symlinkat"),
)
STRACE = (
    *("strace", "-ff", "--seccomp-bpf", "-qq", "-yy"),
    *("-e", "trace=" + ",".join((*NETWORK, "listen", *OPENING, *MAKING))),
    # what is asked for through a ring of the kernel's would not be seen: there is none
    *("-e", "inject=io_uring_setup:error=ENOSYS"),
)
ALONE = (
    *("unshare", "--map-root-user", "--net", "sh", "-c"),
    "ip link set lo up && ip address add 192.0.2.1/32 dev lo && ip route add default dev lo "
    '&& exec "$@"',
    "sh",
)
ADDRESS = re.compile(
    r"sin6?_port=htons\((\d+)\).*?"
    r"(?:inet_addr\(\"([^\"]+)\"\)|inet_pton\(AF_INET6, \"([^\"]+)\")"
)
PROTOCOL = re.compile(r"<(TCP|UDP)")
DOOR = re.compile(r"<(?:TCP|UDP)(?:v6)?:\[(.*):\d+\]>")
PATH = re.compile(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Contact:
    """Somebody whom a process wanted to reach through the network."""

    protocol: str
    host: str
    port: int


@dataclass
class Seen:
    """What a command did."""

    code: int
    out: str
    err: str
    contacts: set[Contact] = field(default_factory=set)
    doors: set[str] = field(default_factory=set)
    """Addresses at which it let others in."""
    made: set[Path] = field(default_factory=set)
    """Files, folders and links that were made, or opened so that they would have been."""


def hindrance() -> str:
    """Why nothing can be watched on this machine; empty if it can."""
    for tool in ("strace", "unshare", "ip"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    done = subprocess.run(
        [*ALONE, *STRACE, "-o", os.devnull, "true"], capture_output=True, text=True, check=False
    )
    return f"not allowed here: {done.stderr.strip()}" if done.returncode else ""


def watched(
    command: Sequence[str | Path], *, logs: Path, env: Mapping[str, str], cwd: Path
) -> Seen:
    """Run it to the end of all that it started; ``logs`` is a new folder."""
    logs.mkdir(parents=True)
    done = subprocess.run(
        [*ALONE, *STRACE, "-o", str(logs / "thread"), *map(str, command)],
        cwd=cwd,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    seen = Seen(done.returncode, done.stdout, done.stderr)
    for log in logs.iterdir():  # one of each thread, so that no line is in two pieces
        for line in log.read_text(errors="replace").splitlines():
            _read(line, cwd, seen)
    return seen


def _read(line: str, cwd: Path, seen: Seen) -> None:
    call = line.partition("(")[0]
    if call in NETWORK:
        seen.contacts.update(_contacts(line))
    elif call == "listen":
        seen.doors.update(DOOR.findall(line))
    elif (call in MAKING or (call in OPENING and "O_CREAT" in line)) and " = -1 E" not in line:
        seen.made.add(_made(line, cwd))


def _contacts(line: str) -> Iterator[Contact]:
    protocol = PROTOCOL.search(line)
    for port, v4, v6 in ADDRESS.findall(line):
        host = (v4 or v6).removeprefix("::ffff:")
        yield Contact(protocol.group(1) if protocol else "?", host, int(port))


def _made(line: str, cwd: Path) -> Path:
    """The last path of the call: where something is moved or linked to, if there are two."""
    *_, (folder, name) = PATH.findall(line)
    return Path(os.path.normpath(Path(folder or cwd) / name))

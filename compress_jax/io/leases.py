"""Leases: one process at a time works on something, on one machine or on several.

A lease is a numbered file in a folder that all of them see; the one with the highest number
counts, and its holder touches it from a thread. A file that nobody touches expires, and
whoever creates the next number first goes on. Nothing is ever renamed or removed under a
holder, so that two processes cannot take each other's lease for a dead one's. It rests on
files that are created exclusively, which local disks and NFS (since version 3) have, and on
no lock of the system, which NFS often has not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from compress_jax.io import files

EXPIRES = 60.0  # seconds without a sign of life
_POLL = 0.2  # seconds between attempts
_TOUCHES = 1 / 6  # of the time after which it expires, between signs of life


class LeaseLost(RuntimeError):
  """Another process has taken over what this one worked on: it seemed to be dead."""


@dataclasses.dataclass(frozen=True)
class Holder:
  """Who holds a lease, as its file says.

  Attributes:
    path: the lease's file.
    owner: {"host", "pid", "machine", "started", "token"}; {} where the file is being written.
    released: whether its work is done.
    seconds: since its last sign of life.
  """

  path: Path
  owner: dict[str, Any]
  released: bool
  seconds: float

  def alive(self, expires: float = EXPIRES) -> bool:
    """Returns whether the lease is in force.

    Args:
      expires: seconds without a sign of life after which it is not.
    """
    # In the future, where a clock was put right since.
    recent = -expires < self.seconds < expires
    return not self.released and recent and not _known_dead(self.owner)


class Lease:
  """A lease that this process holds; `acquire` makes it.

  Attributes:
    path: its file.
    token: what tells it from all other leases.
    also: called with every sign of life.
  """

  def __init__(self, path: Path, token: str, expires: float):
    """Starts the signs of life.

    Args:
      path: of the file, which this process has created.
      token: that it has written there, and nobody else.
      expires: seconds without a sign of life after which others take over.
    """
    self.path, self.token, self._stop = path, token, threading.Event()
    self.also: Callable[[], None] = lambda: None
    # A daemon: a process that ends without releasing must end.
    self._thread = threading.Thread(target=self._touch, args=(_TOUCHES * expires,), daemon=True)
    self._thread.start()

  def _touch(self, every: float) -> None:
    while not self._stop.wait(every):
      # A file system that is away for a moment is no reason to end; `check` tells.
      with contextlib.suppress(OSError):
        os.utime(self.path)
        self.also()

  def check(self) -> None:
    """Raises an error where another process has taken over.

    Raises:
      LeaseLost: this process was still for too long, or its files were removed.
    """
    latest = _latest(self.path.parent)
    # The token too: numbers start again where the folder was removed.
    if latest is None or latest != self.path or _read(latest).owner.get("token") != self.token:
      raise LeaseLost(f"{self.path}: another process has taken over; this one gave no sign of "
                      "life for too long")

  def release(self) -> None:
    """Ends the lease: others need not wait until it expires."""
    self._stop.set()
    self._thread.join()
    with contextlib.suppress(OSError):  # a full disk: it expires instead
      files.write_json(self.path, {**_owner(self.token), "released": True})


def acquire(folder: Path, expires: float = EXPIRES) -> Lease | None:
  """Returns a lease, or None where another process holds it.

  Before it takes over from a process that gave no sign of life it waits for one, a quarter of
  `expires`; otherwise it does not wait.

  Args:
    folder: of the lease; it is made.
    expires: seconds without a sign of life after which a holder counts as dead. A process
      of this machine that is no more counts so at once.

  Example:
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> lease = acquire(folder)
    >>> acquire(folder) is None
    True
    >>> lease.release()
    >>> acquire(folder) is None
    False
  """
  folder.mkdir(parents=True, exist_ok=True)
  last = holder(folder)
  if last is not None and (last.alive(expires) or _wakes(last, expires)):
    return None
  number = 1 + (int(last.path.stem) if last else 0)
  path, token = folder / f"{number:06d}.json", uuid.uuid4().hex
  if not _create(path, token):
    return None  # another process was faster
  if _latest(folder) != path:
    return None  # what was seen of the folder was old
  return Lease(path, token, expires)


def _wakes(last: Holder, expires: float) -> bool:
  """Returns whether an expired lease is touched after all: its machine, or the disk, was asleep."""
  if last.released or not last.owner or _known_dead(last.owner):
    return False
  before = _touched(last.path)
  time.sleep(_TOUCHES * expires * 1.5)
  return _touched(last.path) != before


def _touched(path: Path) -> int:
  try:
    return path.stat().st_mtime_ns
  except OSError:
    return 0  # removed with its folder


@contextlib.contextmanager
def held(folder: Path, expires: float = EXPIRES) -> Iterator[Lease | None]:
  """Holds a lease while a block runs.

  Args:
    folder: see `acquire`.
    expires: see `acquire`.

  Yields:
    The lease, or None where another process holds it.
  """
  lease = acquire(folder, expires)
  try:
    yield lease
  finally:
    if lease is not None:
      lease.release()


@contextlib.contextmanager
def waited(folder: Path, expires: float = EXPIRES) -> Iterator[Lease]:
  """Holds a lease while a block runs, after waiting for who holds it.

  Args:
    folder: see `acquire`.
    expires: see `acquire`.

  Yields:
    The lease.
  """
  while True:
    with held(folder, expires) as lease:
      if lease is not None:
        yield lease
        return
    time.sleep(_POLL)


def holder(folder: Path) -> Holder | None:
  """Returns who holds or last held a lease, or None where nobody did.

  Args:
    folder: see `acquire`; nothing is made there.
  """
  latest = _latest(folder)
  return None if latest is None else _read(latest)


def _latest(folder: Path) -> Path | None:
  """Returns the file with the highest number."""
  found = [path for path in folder.glob("*.json") if path.stem.isdigit()]
  return max(found, key=lambda path: int(path.stem), default=None)


def _create(path: Path, token: str) -> bool:
  """Creates a lease's file; returns whether this process did, and no other."""
  try:
    with path.open("x") as file:
      json.dump({**_owner(token), "released": False}, file)
  except FileExistsError:
    return False
  return True


def _read(path: Path) -> Holder:
  said, age = {}, 0.0
  try:
    age = _age(path)
    said = json.loads(path.read_text())
  except FileNotFoundError:
    said = {"released": True}  # removed with its folder
  except (ValueError, OSError):
    pass  # it is being written, or the file system is away: somebody may hold it
  return Holder(path=path, owner=said, released=bool(said.get("released")), seconds=age)


def _age(path: Path) -> float:
  """Returns the seconds since a file was touched, by the clock of its file system if it can."""
  probe, now = path.parent / f".now-{uuid.uuid4().hex}", time.time()
  with contextlib.suppress(PermissionError):  # another user's folder: by this machine's clock
    probe.touch()
    now = probe.stat().st_mtime
    probe.unlink()
  return now - path.stat().st_mtime


def _owner(token: str) -> dict[str, Any]:
  pid = os.getpid()
  return {"host": platform.node(), "pid": pid, "machine": _machine(), "started": _started(pid),
          "token": token}


def _machine() -> str:
  """Returns what is the same for all processes that see each other's numbers, "" if unknown."""
  try:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    # Containers of one machine may have process numbers of their own.
    return f"{boot} {os.readlink('/proc/self/ns/pid')}"
  except OSError:
    return ""


def _started(pid: int) -> str:
  """Returns when a process started, in the system's ticks, or "" where that is not told."""
  try:
    # Behind the name, which may have any characters: the 20th field of what follows.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
  except (OSError, IndexError):
    return ""


def _known_dead(owner: dict[str, Any]) -> bool:
  """Returns whether an owner was a process of this machine that is no more."""
  if not owner.get("machine") or owner["machine"] != _machine():
    return False
  try:
    os.kill(owner["pid"], 0)
  except ProcessLookupError:
    return True
  except OSError:
    pass  # another user's
  started = _started(owner["pid"])
  # Numbers are used again.
  return bool(started and owner.get("started")) and started != owner["started"]

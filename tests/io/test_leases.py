"""Leases between real processes: one holder, at any time, whoever dies."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from compress_jax.io import leases

# Takes the lease, says so, and keeps it until it is told to go or killed.
HOLDER = """
    import sys, pathlib
    from compress_jax.io import leases
    lease = leases.acquire(pathlib.Path(sys.argv[1]), float(sys.argv[2]))
    print("none" if lease is None else "held", flush=True)
    sys.stdin.readline()
    try:
      lease.check()
      print("still", flush=True)
    except leases.LeaseLost:
      print("lost", flush=True)
"""

# Adds one to a number many times; every addition reads, waits and writes under the lease.
ADDER = """
    import sys, pathlib, time
    from compress_jax.io import leases
    folder = pathlib.Path(sys.argv[1])
    for _ in range(15):
      while True:
        with leases.held(folder / "lease") as lease:
          if lease is not None:
            value = int((folder / "value").read_text())
            time.sleep(0.002)
            (folder / "value").write_text(str(value + 1))
            break
        time.sleep(0.001)
"""


def start(script, *arguments):
  return subprocess.Popen([sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def holding(tmp_path):
  """Returns (process, folder) of a process that holds a lease which expires after a second."""
  process = start(HOLDER, tmp_path / "lease", 1.0)
  assert process.stdout.readline() == "held\n"
  yield process, tmp_path / "lease"
  process.kill()
  process.communicate()


def test_a_living_holder_keeps_its_lease(holding):
  process, folder = holding
  time.sleep(2.2)  # longer than it takes to expire without signs of life
  assert leases.acquire(folder, 1.0) is None
  assert leases.holder(folder).owner["pid"] == process.pid
  process.stdin.write("\n")
  process.stdin.flush()
  assert process.stdout.readline() == "still\n"


def test_a_killed_holder_of_this_machine_counts_as_dead_at_once(holding):
  process, folder = holding
  process.send_signal(signal.SIGKILL)
  process.wait()
  # It would not expire for a minute.
  assert leases.acquire(folder, 60.0) is not None


def test_one_that_was_still_for_too_long_finds_its_lease_lost(holding):
  process, folder = holding
  process.send_signal(signal.SIGSTOP)
  assert leases.acquire(folder, 1.0) is None
  time.sleep(1.2)
  mine = leases.acquire(folder, 1.0)
  assert mine is not None
  process.send_signal(signal.SIGCONT)
  process.stdin.write("\n")
  process.stdin.flush()
  assert process.stdout.readline() == "lost\n"
  mine.check()


@pytest.mark.parametrize("by", [-30, 3600], ids=["in the past", "by a clock that was wrong"])
def test_a_holder_of_another_machine_expires(by, tmp_path, monkeypatch):
  monkeypatch.setattr(leases, "_machine", lambda: "elsewhere")
  lease = leases.acquire(tmp_path, 60.0)
  monkeypatch.undo()
  lease._stop.set()  # as if its machine were off
  assert leases.acquire(tmp_path, 60.0) is None
  os.utime(lease.path, (time.time() + 3 * by,) * 2)
  assert leases.acquire(tmp_path, 2.0) is not None
  with pytest.raises(leases.LeaseLost, match="another process has taken over"):
    lease.check()


def test_one_that_wakes_while_another_is_about_to_take_over_keeps_its_lease(tmp_path):
  lease = leases.acquire(tmp_path, 1.0)
  # Its machine was asleep; it is touched again within a sixth of a second.
  os.utime(lease.path, (time.time() - 90,) * 2)
  assert leases.acquire(tmp_path, 1.0) is None
  lease.check()


def test_a_file_that_is_being_written_is_somebodys(tmp_path):
  (tmp_path / "000001.json").write_text('{"ho')
  assert leases.acquire(tmp_path) is None


def test_an_old_view_of_the_folder_gives_no_lease(tmp_path, monkeypatch):
  leases.acquire(tmp_path).release()
  first = leases.holder(tmp_path).path
  held = leases.acquire(tmp_path)
  views = iter([first])
  latest = leases._latest
  monkeypatch.setattr(leases, "_latest", lambda folder: next(views, None) or latest(folder))
  assert leases.acquire(tmp_path) is None  # the second number is taken
  monkeypatch.undo()
  held.check()


def test_many_processes_never_hold_it_together(tmp_path):
  (tmp_path / "value").write_text("0")
  processes = [start(ADDER, tmp_path) for _ in range(4)]
  assert [process.wait() for process in processes] == [0] * 4
  assert (tmp_path / "value").read_text() == str(4 * 15)

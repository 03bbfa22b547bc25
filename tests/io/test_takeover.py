"""What another process has taken over, or has done meanwhile, is left to it."""

import json
import os
import time

import numpy as np
import pytest

from compress_jax.io import checkpoint, leases, stages
from compress_jax.io.stages import Stage, find, run

STAGE = Stage(name="a", spec={})


def taken_over(directory):
  """Does what another process does to which this one seems to be dead."""
  latest = leases.holder(directory / stages.LEASE).path
  number = int(latest.stem) + 1
  latest.with_name(f"{number:06d}.json").write_text(json.dumps(
      {"token": "another", "released": False}))


def test_a_stage_that_was_taken_over_while_it_worked_writes_nothing(tmp_path):
  def slept(directory):
    taken_over(directory)
    return {"w": np.ones(2)}, {}
  with pytest.raises(leases.LeaseLost):
    run(STAGE, tmp_path, slept)
  directory = STAGE.directory(tmp_path)
  assert not any((directory / name).exists() for name in ("checkpoint", "metrics.json"))
  assert find(STAGE, tmp_path) is None


def test_a_stage_that_was_taken_over_while_it_was_saved_is_not_marked_complete(
    tmp_path, monkeypatch):
  save = checkpoint.save
  def slow(path, *args, **options):
    taken_over(path.parent)
    save(path, *args, **options)
  monkeypatch.setattr(checkpoint, "save", slow)
  with pytest.raises(leases.LeaseLost):
    run(STAGE, tmp_path, lambda _: ({"w": np.ones(2)}, {}))
  assert find(STAGE, tmp_path) is None


def test_a_stage_that_became_complete_just_before_its_lease_does_not_run_again(
    tmp_path, monkeypatch):
  acquire, ran = leases.acquire, []
  def work(directory):
    ran.append(1)
    return {"w": np.full(2, len(ran))}, {"by": len(ran)}
  def late(*args):
    monkeypatch.setattr(leases, "acquire", acquire)
    run(STAGE, tmp_path, work)  # another process is faster, after this one looked
    return acquire(*args)
  monkeypatch.setattr(leases, "acquire", late)
  assert run(STAGE, tmp_path, work).metrics["by"] == 1 and ran == [1]


@pytest.mark.parametrize("ahead", [3600, -3600])
def test_a_clock_that_is_wrong_takes_no_lease_and_gives_none_up(tmp_path, monkeypatch, ahead):
  monkeypatch.setattr(leases, "_machine", lambda: "elsewhere")
  lease = leases.acquire(tmp_path)
  monkeypatch.undo()
  clock = time.time
  monkeypatch.setattr(time, "time", lambda: clock() + ahead)
  # By the clock of the file system, which all processes share, it is new.
  assert leases.acquire(tmp_path) is None
  lease._stop.set()
  os.utime(lease.path, (clock() - 90,) * 2)
  assert leases.acquire(tmp_path, 2.0) is not None


def test_a_process_that_has_the_number_of_a_dead_one_is_not_it(tmp_path):
  lease = leases.acquire(tmp_path)
  known = json.loads(lease.path.read_text())
  lease._stop.set()
  lease.path.write_text(json.dumps({**known, "started": "1"}))  # this process began later
  assert leases.acquire(tmp_path, 3600.0) is not None

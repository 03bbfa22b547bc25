"""Stages: identity, sharing, interruption."""

import numpy as np
import pytest

import compress_jax as cj
from compress_jax.io.stages import Stage, find, run


def stage(name="a", parent=None, data="d", **spec):
  return Stage(name=name, spec=spec, parent=parent, data=data)


def test_identity_is_everything_that_made_it(monkeypatch):
  base = stage(epochs=1, lr=0.1)
  assert base.digest == stage(lr=0.1, epochs=1).digest
  others = [stage(epochs=2, lr=0.1), stage(data="e", epochs=1, lr=0.1),
            stage(name="b", epochs=1, lr=0.1), stage(parent=base, epochs=1, lr=0.1)]
  assert len({base.digest, *(o.digest for o in others)}) == 5
  child = stage(name="c", parent=base).digest
  assert child != stage(name="c", parent=others[0]).digest
  before = base.digest
  monkeypatch.setattr("compress_jax.io.stages.__version__", "9")
  assert base.digest != before


def test_a_complete_stage_never_runs_again(tmp_path):
  calls = []
  def work(directory):
    calls.append(directory)
    return {"w": np.full(2, 7.0, np.float32)}, {"accuracy": 0.25}
  first = run(stage(), tmp_path, work)
  again = run(stage(), tmp_path, work)
  assert len(calls) == 1 and again.metrics == first.metrics
  np.testing.assert_array_equal(again.load()["w"], [7, 7])
  assert first.directory == tmp_path / "stages" / f"a-{stage().digest}"


def test_an_interrupted_stage_goes_on_in_its_directory(tmp_path):
  def interrupted(directory):
    (directory / "progress").write_text("half")
    (directory / "x.partial-1").mkdir()
    raise KeyboardInterrupt
  with pytest.raises(KeyboardInterrupt):
    run(stage(), tmp_path, interrupted)
  assert find(stage(), tmp_path) is None
  seen = {}
  def goes_on(directory):
    seen.update(text=(directory / "progress").read_text(),
                left=(directory / "x.partial-1").exists())
    return {}, {}
  assert run(stage(), tmp_path, goes_on).metrics["seconds"] >= 0
  assert seen == {"text": "half", "left": False}


def test_damage_is_named(tmp_path):
  result = run(stage(), tmp_path, lambda _: ({"w": np.ones(2)}, {}))
  (result.directory / "metrics.json").write_text('{"acc')
  with pytest.raises(cj.checkpoint.CheckpointError, match=r"metrics\.json: cannot be read"):
    find(stage(), tmp_path)


def test_two_processes_do_not_work_on_one_stage(tmp_path):
  import threading
  running, order = threading.Event(), []
  def slow(directory):
    running.set()
    order.append("first")
    threading.Event().wait(0.5)
    return {"w": np.ones(1)}, {"by": "first"}
  thread = threading.Thread(target=run, args=(stage(), tmp_path, slow))
  thread.start()
  running.wait()
  second = run(stage(), tmp_path, lambda _: order.append("second"))
  thread.join()
  assert order == ["first"] and second.metrics["by"] == "first"


def test_time_between_attempts_is_not_counted(tmp_path):
  import os
  import time
  def interrupted(directory):
    raise KeyboardInterrupt
  with pytest.raises(KeyboardInterrupt):
    run(stage(), tmp_path, interrupted)
  for file in stage().directory(tmp_path).rglob("*"):
    os.utime(file, (time.time() - 500,) * 2)
  assert run(stage(), tmp_path, lambda _: ({}, {})).metrics["seconds"] < 100

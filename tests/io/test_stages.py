"""Stages: identity, sharing, interruption."""

import json
import os
import re
import shutil
import time

import numpy as np
import pytest

import compress_jax as cj
import compress_jax.inspect
from compress_jax.io import leases, stages
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


def test_time_of_attempts_is_counted_and_between_them_is_not(tmp_path):
  def interrupted(directory):
    time.sleep(0.2)
    raise KeyboardInterrupt
  for _ in range(2):
    with pytest.raises(KeyboardInterrupt):
      run(stage(), tmp_path, interrupted)
    # Copied later: files tell nothing about when a stage ran.
    for file in stage().directory(tmp_path).rglob("*"):
      os.utime(file, (time.time() + 36_000,) * 2)
  assert 0.4 <= run(stage(), tmp_path, lambda _: ({}, {})).metrics["seconds"] < 100


def test_time_is_kept_while_an_attempt_goes_on(tmp_path, monkeypatch):
  acquire = leases.acquire
  monkeypatch.setattr(leases, "acquire", lambda folder, expires: acquire(folder, 0.3))
  seen = set()
  def work(directory):
    file, end = directory / stages.LEASE / "spent.json", time.monotonic() + 60
    while len(seen) < 2 and time.monotonic() < end:
      time.sleep(0.02)
      if file.exists():
        seen.add(json.loads(file.read_text()))
    return {}, {}
  run(stage(), tmp_path, work)
  assert len(seen) == 2


def child_of(value, folder, times=2):
  """Runs a stage of some weights, one that multiplies them, and one that does so again."""
  base = Stage(name="base", spec={})
  child = Stage(name="child", spec={}, parent=base)
  grandchild = Stage(name="grandchild", spec={}, parent=child)
  first = run(base, folder, lambda _: ({"w": np.full(2, value)}, {})).load()["w"]
  for made in (child, grandchild):
    first = run(made, folder, lambda _, w=first: ({"w": times * w}, {})).load()["w"]
  return grandchild


def test_what_was_made_from_another_model_than_there_is_now_is_damaged(tmp_path):
  last = child_of(1.0, tmp_path)
  shutil.rmtree(last.lineage()[0].directory(tmp_path))
  assert find(last.parent, tmp_path) is not None  # who has only the end of a study can use it
  child_of(1.0, tmp_path)  # the same weights again: no harm
  shutil.rmtree(last.lineage()[0].directory(tmp_path))
  with pytest.raises(stages.DamagedStage, match="child-.* made from another base-"):
    child_of(3.0, tmp_path)
  removed = stages.repair(tmp_path)
  assert [line[:6] for line in removed] == ["child-", "grandc"], removed
  assert "was made from child-" in removed[1]
  np.testing.assert_array_equal(find(child_of(3.0, tmp_path), tmp_path).load()["w"], 12.0)


def test_a_damaged_file_does_not_tell_what_was_made_from_what(tmp_path):
  last = child_of(1.0, tmp_path)
  base, child, _ = [made.directory(tmp_path) for made in last.lineage()]
  said = json.loads((child / "stage.json").read_text())
  said["parent_model"] = "0" * len(said["parent_model"])
  of_another_model = (child / "checkpoint/manifest.json").read_bytes()
  for file, content in ((base / "checkpoint/manifest.json", of_another_model),
                        (child / "stage.json", json.dumps(said).encode())):
    file.write_bytes(content)
    assert find(last, tmp_path) is not None
    # The one that was damaged goes, and what was made from it stays: it may come out the same.
    (line,) = stages.repair(tmp_path)
    assert line.startswith(f"{file.relative_to(tmp_path / 'stages').parts[0]}: {file}"), line
    child_of(1.0, tmp_path)  # finds all of it, made again or not


def test_a_stage_that_is_held_is_not_repaired(tmp_path):
  run(stage(), tmp_path, work)
  directory = stage().directory(tmp_path)
  (directory / "metrics.json").write_text("{}")
  with leases.held(directory / stages.LEASE):
    assert not stages.repair(tmp_path)
  assert len(stages.repair(tmp_path)) == 1


def test_a_stage_that_another_version_wrote_is_refused_and_not_removed(tmp_path):
  run(stage(), tmp_path, work)
  mark = stage().directory(tmp_path) / "complete.json"
  mark.write_text(json.dumps({**json.loads(mark.read_text()), "format": 2}))
  with pytest.raises(stages.DamagedStage, match=r"by another version \(format 2; this one reads 1"):
    find(stage(), tmp_path)
  assert not stages.repair(tmp_path) and mark.exists()


def test_the_lease_of_a_folder_that_was_removed_is_lost(tmp_path):
  lease = leases.acquire(tmp_path / "lease")
  shutil.rmtree(tmp_path / "lease")
  other = leases.acquire(tmp_path / "lease")
  other.check()
  with pytest.raises(leases.LeaseLost):
    lease.check()


def work(directory):
  params = {"w": np.arange(6, dtype=np.float32)}
  size = cj.artifact.save(directory / "model.cjx", params)
  (directory / "log.txt").write_text("starts")
  return params, {"accuracy": 0.25, "artifact_bytes": size}


def digit(file, old, new):
  text = file.read_text()
  assert old in text
  file.write_text(text.replace(old, new, 1))


DAMAGE = {
    "a digit of the metrics": (lambda d: digit(d / "metrics.json", "0.25", "0.95"),
                               r"metrics\.json: fails its checksum"),
    "a missing artifact": (lambda d: (d / "model.cjx").unlink(), r"model\.cjx: is missing"),
    "a changed artifact": (lambda d: (d / "model.cjx").write_bytes(
        b"\0" * (d / "model.cjx").stat().st_size), r"model\.cjx: fails its checksum"),
    "a longer artifact": (lambda d: (d / "model.cjx").open("ab").write(b"\0"),
                          r"model\.cjx: has \d+ bytes; it must have \d+ bytes"),
    "a digit of the specification": (lambda d: digit(d / "stage.json", 'epochs": 1', 'epochs": 2'),
                                     r"stage\.json: fails its checksum"),
    "a digit of the manifest": (lambda d: digit(d / "checkpoint" / "manifest.json", "6", "7"),
                                r"manifest\.json: fails its checksum"),
    "a digit of a checksum": (lambda d: digit(d / "complete.json", '"bytes": ', '"bytes": 1'),
                              r"complete\.json: fails its own checksum"),
    "a missing description": (lambda d: (d / "stage.json").unlink(),
                              r"stage\.json: (is missing|cannot be read)"),
    "missing metrics": (lambda d: (d / "metrics.json").unlink(), r"metrics\.json: is missing"),
    "metrics cut short": (lambda d: (d / "metrics.json").write_text('{"acc'),
                          r"metrics\.json: cannot be read, maybe cut short")}


@pytest.mark.parametrize("case", DAMAGE)
def test_whatever_a_stage_left_is_checked_and_repaired(case, tmp_path):
  damage, message = DAMAGE[case]
  made = stage(epochs=1)
  directory = run(made, tmp_path, work).directory
  damage(directory)
  for attempt in (lambda: find(made, tmp_path), lambda: run(made, tmp_path, pytest.fail)):
    with pytest.raises(cj.stages.DamagedStage, match=f"{message}.*; remove {directory} to run "
                       "that stage again") as caught:
      attempt()
    assert caught.value.directory == directory
  found = cj.inspect.check(cj.inspect.read(tmp_path)).failures
  assert any(re.search(message, line) for line in found), found
  (removed,) = cj.stages.repair(tmp_path)
  assert removed.startswith(directory.name) and re.search(message, removed)
  assert run(made, tmp_path, work).metrics["accuracy"] == 0.25
  assert not cj.stages.repair(tmp_path)


def test_the_log_may_grow_and_a_stage_without_its_mark_is_not_complete(tmp_path):
  result = run(stage(), tmp_path, work)
  (result.directory / "log.txt").write_text("more")
  assert find(stage(), tmp_path).metrics == result.metrics
  (result.directory / "complete.json").unlink()
  assert find(stage(), tmp_path) is None


def test_stages_that_version_0_3_completed_still_count(tmp_path):
  result = run(stage(), tmp_path, work)
  (result.directory / "complete.json").unlink()
  known = json.loads((result.directory / "stage.json").read_text())
  del known["marked_by"]
  (result.directory / "stage.json").write_text(json.dumps(known))
  assert find(stage(), tmp_path).metrics == result.metrics
  assert not cj.inspect.check(cj.inspect.read(tmp_path)).failures
  (result.directory / "model.cjx").unlink()
  assert "is missing" in cj.inspect.check(cj.inspect.read(tmp_path)).failures[0]
  (result.directory / "metrics.json").write_text("{")
  with pytest.raises(cj.stages.DamagedStage, match=r"metrics\.json: cannot be read"):
    find(stage(), tmp_path)


def test_repair_reads_arrays_and_what_an_interrupted_stage_keeps(tmp_path):
  directory = run(stage(), tmp_path, work).directory
  def interrupted(path):
    cj.checkpoint.save(path / "work" / "epoch-0001", {"w": np.ones(3)})
    raise KeyboardInterrupt
  with pytest.raises(KeyboardInterrupt):
    run(stage("b"), tmp_path, interrupted)
  assert not cj.stages.repair(tmp_path)
  for folder in ("checkpoint", "work/epoch-0001"):
    for path in tmp_path.glob(f"stages/*/{folder}/arrays/**/d/*"):
      path.write_bytes(b"\xff" * path.stat().st_size)
  assert [line.partition("-")[0] for line in cj.stages.repair(tmp_path)] == ["a", "b"]
  assert not directory.exists()


@pytest.mark.parametrize("name,spec,message", [
    ("../x", {}, "name='../x': must be the name of a folder"), ("", {}, "name='': must be"),
    ("a", {1: "a"}, "spec: key 1: must be a text")])
def test_a_stage_is_one_folder_and_one_specification(name, spec, message):
  with pytest.raises(ValueError, match=message):
    cj.stages.Stage(name=name, spec=spec)

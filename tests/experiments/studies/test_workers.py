"""Several processes on one study: the same results, whoever is killed."""

import csv
import os
import random
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments import faults
from experiments.datasets import builders
from experiments.studies import failures, grid, joint, recipes, suggest, takeaways, tree
from experiments.studies.manner import Manner

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
CONFIG = "--config=configs/joint.py:digits,smoke"


def worker(workdir, *flags):
  return subprocess.Popen(
      [sys.executable, "launch.py", CONFIG, f"--workdir={workdir}", "--worker", *flags], cwd=ROOT,
      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)


def rows(workdir):
  with (workdir / "results.csv").open() as file:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def config(**changes):
  made = runpy.run_path(str(ROOT / "configs/joint.py"))["get_config"]("digits,smoke").unlock()
  made.update(changes)
  return made.lock()


def looking(workdir, made=None, kind=joint.JointStudy):
  made = made or config()
  return kind(made, workdir, builders.builder(made.data.name), 0, None, Manner(looks="plan"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
  """(workdir, rows) of one process."""
  workdir = tmp_path_factory.mktemp("alone")
  process = worker(workdir)
  output = process.communicate()[0]
  assert process.returncode == 0, output
  return workdir, rows(workdir)


def test_killed_workers_leave_what_others_complete(alone, tmp_path):
  rng = random.Random(0)
  working = [worker(tmp_path) for _ in range(2)]
  for _ in range(int(os.environ.get("KILLS", "2"))):
    # A line says that a stage begins, or an epoch ends: it dies between two of them.
    victim = working.pop(0)
    for _ in range(rng.randint(1, 4)):
      victim.stdout.readline()
    os.killpg(victim.pid, signal.SIGKILL)
    victim.communicate()
    working.append(worker(tmp_path))
  outputs = [process.communicate()[0] for process in working]
  assert [process.returncode for process in working] == [0, 0], outputs
  assert rows(tmp_path) == alone[1]
  # Each stage was run to its end by one of them.
  ran = sum(int(text.partition("stages run now: ")[2].split(";")[0]) for text in outputs)
  assert ran <= 5 and len(list(tmp_path.glob("stages/*/complete.json"))) == 5


def test_the_plan_shows_what_is_complete_and_runs_nothing(alone, tmp_path):
  ready = {node.name: node.state for node in tree.nodes(looking(tmp_path))}
  assert ready == {"base": "ready", "kd": "waiting", "kd+imp": "waiting", "kd+imp+q": "waiting",
                   "joint": "waiting"}
  assert not list(tmp_path.iterdir())
  text = tree.text(tree.nodes(looking(alone[0])), 80)
  assert "5 stages: 5 complete" in text and max(map(len, text.splitlines())) <= 80
  assert text.splitlines()[2].startswith("    kd+imp ")


def test_the_plan_says_who_works_and_since_which_epoch(tmp_path):
  process = worker(tmp_path)
  try:
    while "epoch 1/" not in process.stdout.readline():
      time.sleep(0.01)
    (base, *others) = tree.nodes(looking(tmp_path))
    assert base.state == "running" and f":{process.pid}  epoch" in base.text
    assert {node.state for node in others} == {"waiting"}
  finally:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
  assert tree.nodes(looking(tmp_path))[0].state == "ready"


def test_all_machines_have_the_precision_of_the_first(tmp_path, monkeypatch):
  chosen = iter(("bfloat16", "float32", "float32"))
  monkeypatch.setattr("experiments.training.devices.compute_dtype",
                      lambda asked: next(chosen) if asked == "auto" else asked)
  first = recipes.on_this_machine(config(), tmp_path, keep=True)
  assert first.compute_dtype == "bfloat16"
  assert recipes.on_this_machine(config(), tmp_path).compute_dtype == "bfloat16"
  assert recipes.on_this_machine(config(), tmp_path / "other").compute_dtype == "float32"
  (tmp_path / "compute_dtype").write_text("half")
  chosen = iter(("float32",))
  with pytest.raises(ValueError, match="'half' must be float32 or bfloat16; remove it"):
    recipes.on_this_machine(config(), tmp_path)


def test_cells_of_one_program_are_not_for_several_processes(tmp_path):
  made = runpy.run_path(str(ROOT / "configs/grid.py"))["get_config"]("mnist,smoke").unlock()
  made.data.name, made.vmap = "digits", True
  with pytest.raises(ValueError, match="config.vmap=True: trains all cells in one process"):
    grid.run(made, tmp_path, manner=Manner(worker=True))


def test_an_ensemble_waits_for_all_of_its_members(tmp_path):
  made = runpy.run_path(str(ROOT / "configs/takeaways.py"))["get_config"]("smoke").unlock()
  made.data.name = "digits"
  found = {node.name: node for node in tree.nodes(looking(tmp_path, made, takeaways.Takeaways))}
  assert found["ensemble"].state == "waiting" and found["ensemble"].depth == 2
  study = looking(tmp_path, made, takeaways.Takeaways)
  assert list(study.needs("ensemble")) == list(made.ensemble)


def test_a_study_that_finds_its_stages_out_has_a_plan_too(tmp_path):
  made = runpy.run_path(str(ROOT / "configs/suggest.py"))["get_config"]("digits,smoke")
  states = {node.name: node.state for node in tree.nodes(looking(tmp_path, made, suggest.Suggest))}
  assert states["base"] == "ready" and set(states.values()) == {"ready", "waiting"}


def test_a_stage_that_failed_is_left_alone_until_it_is_retried(tmp_path, monkeypatch):
  make = joint.JointStudy.make

  def fails(error):
    def broken(self, name, work, log):
      if name == "kd":
        raise error
      return make(self, name, work, log)
    monkeypatch.setattr(joint.JointStudy, "make", broken)
  fails(faults.NotFinite("loss is nan"))
  monkeypatch.setattr("experiments.reporting.page.write", lambda *_, **__: None)  # for time
  monkeypatch.setattr("experiments.reporting.figures.pareto", lambda *_: None)
  with pytest.raises(faults.StudyFailed, match="failed: 1, skipped: 2; failed: kd .*is nan"):
    joint.run(config(), tmp_path, manner=Manner(worker=True))
  states = {node.name: (node.state, node.text) for node in tree.nodes(looking(tmp_path))}
  assert states["kd"] == ("failed", "loss is nan")
  assert states["kd+imp+q"] == ("skipped", "because kd failed")
  assert states["joint"][0] == "complete"
  # Mended, but nobody said so: it is not tried again.
  monkeypatch.setattr(joint.JointStudy, "make", make)
  with pytest.raises(faults.StudyFailed, match="is nan .failed before; --retry_failed tries"):
    joint.run(config(), tmp_path)
  # One that started before it failed leaves it alone too; memory is another process's matter.
  fails(MemoryError("no room"))
  with pytest.raises(faults.StudyFailed, match="is nan"):
    joint.run(config(), tmp_path, manner=Manner(retry_failed=True, started=0.0))
  with pytest.raises(faults.StudyFailed, match="failed: kd .*: no room$"):
    joint.run(config(), tmp_path, manner=Manner(retry_failed=True))
  assert not list(tmp_path.glob(f"stages/*/{failures.FILE}"))
  monkeypatch.setattr(joint.JointStudy, "make", make)
  assert len(joint.run(config(), tmp_path)) == 5
  assert not list(tmp_path.glob(f"stages/*/{failures.FILE}"))

"""Studies that are stopped, that wait for each other, and that find the disk full."""

import errno
import re
import runpy
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from compress_jax.io import orbax_arrays
from experiments import faults
from experiments.datasets import builders
from experiments.studies import joint

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]


def config(**changes):
  made = runpy.run_path("configs/joint.py")["get_config"]("digits,smoke").unlock()
  made.update(changes)
  return made.lock()


def stopped(workdir, number):
  """Launches a study that never ends, stops it in an epoch, and returns (code, lines, error)."""
  process = subprocess.Popen(
      [sys.executable, "launch.py", "--config=configs/joint.py:digits,smoke",
       "--config.base.train.epochs=100000", f"--workdir={workdir}"], cwd=ROOT,
      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
      # The tests may have been started by `nohup`, whose children ignore it too.
      preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
  lines, epochs = [], 0
  for line in process.stdout:
    lines.append(line)
    epochs += "base: epoch" in line
    if epochs == 3:
      process.send_signal(number)
      break
  rest, error = process.communicate(timeout=60)
  return process.returncode, [*lines, *rest.splitlines()], error


def test_ctrl_c_and_sigterm_end_with_one_line_and_the_next_run_says_where_it_goes_on(tmp_path):
  code, lines, error = stopped(tmp_path, signal.SIGINT)
  pattern = (r"launch.py: stopped \((\w+)\); state kept; the same command continues at "
             r"stage base, epoch (\d+)\n")
  told = re.fullmatch(pattern, error)
  assert code == 130 and told and told[1] == "SIGINT", error
  assert lines[0].startswith("5 stages, 0 complete; trains on ") and int(told[2]) >= 3
  assert lines[1] == "base: starts (seed 0)\n"
  code, lines, error = stopped(tmp_path, signal.SIGTERM)
  assert lines[1:3] == ["base: resumes (seed 0)\n", f"base: resumes at epoch {told[2]}/100000\n"]
  assert lines[3].startswith(f"base: epoch {told[2]}/100000 ")
  later = re.fullmatch(pattern, error)
  assert code == 143 and later and later[1] == "SIGTERM", error
  assert int(later[2]) > int(told[2])
  code, _, error = stopped(tmp_path, signal.SIGHUP)  # the terminal was closed
  assert code == 129 and re.fullmatch(pattern, error)[1] == "SIGHUP", error


def test_a_full_disk_is_one_line_that_says_where_the_run_goes_on(tmp_path, monkeypatch):
  usage = shutil.disk_usage
  with monkeypatch.context() as patch:
    patch.setattr(shutil, "disk_usage", lambda path: usage(path)._replace(free=0))
    with pytest.raises(faults.DiskFull) as caught:
      joint.run(config(), tmp_path)
  assert re.fullmatch(r"No space left on device \(.*epoch-0001.*\); state kept; the same command "
                      "continues at stage base, epoch 1", str(caught.value))
  def met_late(verb, path, *args, background):
    raise ValueError('RESOURCE_EXHAUSTED: Error writing "d/1": No space left on device [many]')
  monkeypatch.setattr(orbax_arrays, "_call", met_late)
  with pytest.raises(OSError, match="No space left on device") as caught:
    orbax_arrays.save(tmp_path / "arrays", {"w": np.ones(2)})
  assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(tmp_path / "arrays")


def test_a_stage_that_another_process_ran_meanwhile_is_not_counted(tmp_path, capsys):
  builder = builders.builder("digits")
  studies = [joint.JointStudy(config(), tmp_path, builder, 0) for _ in range(2)]
  threads = [threading.Thread(target=study.result, args=("base",)) for study in studies]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert sorted(study.stages_run for study in studies) == [0, 1]
  assert "base: waits for another process that works on it" in capsys.readouterr().out

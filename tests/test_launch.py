"""Bad input at the command line: one line, exit code 2, nothing lost."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import forked

ROOT = Path(__file__).parent.parent
JOINT = "--config=configs/joint.py:digits,smoke"
COMBO, BIRDS = "--config=configs/combo.py", "--config=configs/birds.py:smoke"
CASES = {
    "no_config": ([], "--config is missing"),
    "unknown_config": (["--config=configs/nothing.py"],
                       r"nothing.py: no such file; it must be one of configs/airnet.py"),
    "unknown_variant": ([f"{COMBO}:imagenet"], "imagenet: must be one of digits, mnist, cifar10"),
    "unknown_budget": ([f"{COMBO}:digits,hours=2"], "'hours=2' must be .*epochs="),
    "unknown_field": ([COMBO, "--config.imp.fractoin=0.2"],
                      r"--config.imp.fractoin: no such field; it must be one of fraction, rounds"),
    "field_as_flag": ([JOINT, "--epochs=3"], r"--epochs: no such flag; fields are set by "
                      r"--config.base.train.epochs=, .*--config.q.train.epochs="),
    "unknown_flag": ([JOINT, "--verbose"], r"no such flag; it must be --config, .*--debug"),
    "dtype": ([JOINT, "--config.compute_dtype=fp16"], "compute_dtype='fp16': must be one of auto"),
    "wrong_type": ([COMBO, "--config.q.bits=many"], "bits"),
    "unknown_data": ([COMBO, "--config.data.name=svhn"], "data.name='svhn': must be one of"),
    "unknown_model": ([COMBO, "--config.teacher.name=resnet"], "teacher: model 'resnet': must be"),
    "unknown_combo": ([COMBO, "--config.combos=base,q+imp"],
                      "combos='q\\+imp': must be all, base"),
    "combo": ([COMBO, "--config.combo=true"], "config.combo=True: must be False, because this"),
    "sparsity": ([COMBO, "--config.imp.fraction=1.5"], "imp.fraction=1.5: must be a number from"),
    "bits": ([COMBO, "--config.q.bits=0"], "q.bits=0: must be a whole number from 2 to 16"),
    "rank": ([COMBO, "--config.lrtf.rank=-1"], "lrtf.rank=-1: must be a whole number from 0"),
    "delta": ([COMBO, "--config.lrtf.delta=50"], "config.lrtf: teacher: head/kernel: delta=50"),
    "data_dir": ([COMBO, "--data_dir=/nowhere"], "data_dir='/nowhere': is no directory"),
    "no_folder": ([BIRDS], "--data_dir is missing; it must be a folder with train/<class>"),
    "empty_folder": ([BIRDS, "--data_dir=configs"], "data_dir='configs': no images in train/"),
    "alone": ([COMBO, "--num_processes=2"], "--num_processes=2: does nothing without --dist"),
    "ray_alone": ([COMBO, "--cpus=8"], "--cpus=8.0: does nothing without --executor=ray"),
    "plan_repairs": ([COMBO, "--plan", "--repair"], "--repair: removes stages; must not be given"),
    "no_runs": (["--list"], "--workdir='.*': has no runs; it must be a workdir, or a directory of"),
    "compare": (["--compare=nothing"], "--compare='nothing': no results are there; it must be a"),
    "remove": (["--remove=tests"], "--remove='tests': no results are there; it must be a folder"),
    "workdir": ([COMBO, "--workdir=/proc/nowhere"], "workdir='/proc/nowhere': cannot be written"),
}


def launch(*flags, **env):
  return subprocess.run([sys.executable, "launch.py", *flags], cwd=ROOT, capture_output=True,
                        text=True, env={**os.environ, **env})


@pytest.mark.parametrize("case", CASES)
def test_one_line_and_exit_code_2(case, tmp_path):
  flags, message = CASES[case]
  if not any(f.startswith("--workdir") for f in flags):
    flags = [*flags, f"--workdir={tmp_path}"]
  done = forked.launch(*flags)
  assert done.returncode == 2, done.stderr
  assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
  assert re.search(message, done.stderr), done.stderr


@pytest.mark.parametrize("flags,shown", [
    (["--help"], r"(?s)Studies\n.*configs/combo.py  +The sixteen.*Flags\n.*--workdir=  +Where"),
    (["-h", COMBO], r"--config.imp.fraction= +0.2 +a number from 0.001 to 0.999\n")])
def test_help_is_printed_and_is_no_error(flags, shown):
  done = launch(*flags, COLUMNS="120")
  assert done.returncode == 0 and not done.stderr
  assert re.search(shown, done.stdout), done.stdout


def test_help_for_a_file_that_is_not_there_is_an_error():
  done = launch("--help", "--config=configs/nothing.py")
  assert done.returncode == 2 and "no such file" in done.stderr and not done.stdout


def test_debug_shows_the_traceback(tmp_path):
  done = launch(COMBO, "--config.q.bits=0", "--debug", f"--workdir={tmp_path}")
  assert done.returncode != 0 and "Traceback" in done.stderr

"""A finished study, damaged at random: the same results again, or one true line."""

import hashlib
import os
import random
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import compress_jax as cj
from compress_jax import inspect
from experiments.datasets import builders
from experiments.studies import joint

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
JOINT = "--config=configs/joint.py:digits,smoke"
COUNT = 250 if os.environ.get("ALL") else 8


def relaunched(workdir):
  """Returns the rows that a launch of the study would report, without the time they took."""
  made = runpy.run_path("configs/joint.py")["get_config"]("digits,smoke")
  rows = joint.JointStudy(made, workdir, builders.builder("digits"), 0).rows()
  return [{**row, "seconds": None} for row in rows]


def content(workdir):
  """Returns a digest of a workdir's folders and files: their paths, and what the files hold."""
  digest = hashlib.sha256()
  for path in sorted(workdir.rglob("*")):
    held = path.read_bytes() if path.is_file() else b"folder"
    for part in (str(path.relative_to(workdir)).encode(), held):
      digest.update(len(part).to_bytes(8, "big") + part)
  return digest.hexdigest()


_ROWS = {}  # by content


def launched(workdir):
  """Returns `relaunched(workdir)`, once for all workdirs of one content.

  Most of the time goes into training stages again, and after a repair there are only as many
  different workdirs as there are stages.
  """
  before = content(workdir)
  if before not in _ROWS:
    _ROWS[before] = relaunched(workdir)
  return _ROWS[before]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("finished")
  return workdir, relaunched(workdir)


def flip(file, rng):
  content = bytearray(file.read_bytes()) or bytearray(1)
  content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
  file.write_bytes(content)


def other_digit(file, rng):
  content = bytearray(file.read_bytes())
  digits = [place for place, byte in enumerate(content) if chr(byte).isdigit()]
  if digits:
    place = rng.choice(digits)
    content[place] = ord("0") + (content[place] - ord("0") + rng.randrange(1, 10)) % 10
  file.write_bytes(content)


def cut(file, rng):
  content = file.read_bytes()
  file.write_bytes(content[:rng.randrange(len(content) + 1)])


def remove(file, rng):
  file.unlink()


def exchange(file, rng):
  """Puts the file of the same name of another stage in its place."""
  stages = file.parents[len(file.parts) - file.parts.index("stages") - 2]
  stage = file.parts[file.parts.index("stages") + 1]
  inside = file.relative_to(stages / stage)
  others = [path / inside for path in sorted(stages.iterdir()) if (path / inside).is_file()]
  file.write_bytes(rng.choice(others).read_bytes())


def remove_stage(file, rng):
  stages = next(path for path in file.parents if path.name == "stages")
  shutil.rmtree(stages / file.relative_to(stages).parts[0])


def damage(workdir, rng):
  """Damages one file, or removes one stage, and returns which and how."""
  stage = rng.choice(sorted((workdir / "stages").iterdir()))
  top = sorted(path for path in stage.iterdir() if path.is_file())
  below = sorted(path for path in (stage / "checkpoint").rglob("*") if path.is_file())
  file = rng.choice(rng.choice([top, below]))
  how = rng.choice([flip, flip, other_digit, other_digit, cut, remove, exchange, remove_stage])
  how(file, rng)
  return f"{how.__name__} {file}"


@pytest.mark.parametrize("part", range(4))
def test_a_damaged_study_ends_with_the_same_results_or_one_true_line(finished, tmp_path, part):
  original, rows = finished
  rng = random.Random(part)
  told = 0
  for number in range(COUNT // 4 + 1):
    workdir = tmp_path / str(number)
    shutil.copytree(original, workdir)
    done = damage(workdir, rng)
    file = Path(done.partition(" ")[2])
    try:
      assert launched(workdir) == rows, done
    except cj.stages.DamagedStage as error:
      told += 1
      line = str(error)
      # True: it names the stage that was damaged, and removing that is a remedy.
      assert "\n" not in line and file.is_relative_to(error.directory), (done, line)
      assert line.startswith(str(error.directory)), (done, line)
      assert inspect.check(inspect.read(workdir)).failures, done
      assert len(cj.stages.repair(workdir)) == 1, done
      assert launched(workdir) == rows, done
    shutil.rmtree(workdir)
  assert told or number < 10


def launch(workdir, *more):
  return subprocess.run([sys.executable, "launch.py", JOINT, f"--workdir={workdir}", *more],
                        cwd=ROOT, capture_output=True, text=True)


def test_launch_names_the_damage_and_repair_mends_it(finished, tmp_path):
  original, rows = finished
  shutil.copytree(original, tmp_path / "study")
  (stage,) = (tmp_path / "study").glob("stages/kd+imp+q-*")
  (stage / "model.cjx").unlink()
  done = launch(tmp_path / "study")
  assert (done.returncode, done.stderr) == (
      2, f"launch.py: {stage}/model.cjx: is missing; remove {stage} to run that stage again "
         "(--repair does so)\n")
  done = launch(tmp_path / "study", "--repair")
  assert done.returncode == 0, done.stderr
  assert f"repair: removed {stage.name}: {stage}/model.cjx: is missing" in done.stdout
  assert "stages run now: 1;" in done.stdout
  assert (stage / "model.cjx").stat().st_size == rows[3]["artifact_bytes"]

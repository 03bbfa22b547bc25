"""The command `compress-jax`, as its users call it."""

import csv
import json
import os
import subprocess
import sys

import pytest


def command(*arguments, cwd):
  """Returns what the command does in a folder that is no checkout."""
  return subprocess.run([sys.executable, "-c", "import compress_jax.cli as c, sys; "
                         "sys.exit(c.main())", *arguments], cwd=cwd, capture_output=True,
                        text=True, env={**os.environ, "COLUMNS": "100"})


def test_a_command_that_is_none_says_which_there_are(tmp_path):
  done = command("runs", cwd=tmp_path)
  assert done.returncode == 2
  assert done.stderr == ("compress-jax: runs: must be one of run, inspect, bench, score (--help "
                         "tells more)\n")
  assert command("bench", "fast", cwd=tmp_path).returncode == 2


def test_run_lists_the_studies_from_anywhere(tmp_path):
  done = command("run", "--help", cwd=tmp_path)
  assert done.returncode == 0 and "configs/takeaways.py" in done.stdout, done.stderr
  assert not list(tmp_path.iterdir())
  done = command("run", "combo:nothing", cwd=tmp_path)
  assert done.returncode == 2 and "nothing: must be one of digits, mnist, cifar10" in done.stderr


@pytest.mark.slow
def test_a_study_runs_and_its_files_are_scored_and_inspected(tmp_path):
  done = command("run", "combo:digits,smoke", "--config.combos=q", "--config.data.limit=0",
                 "--config.teacher.arguments.depth=7", "--config.teacher.arguments.growth=6",
                 cwd=tmp_path)
  assert done.returncode == 0, done.stderr
  workdir = tmp_path / "runs" / "combo-digits-smoke"
  assert (workdir / "report.html").is_file()
  files = sorted(workdir.glob("stages/*/model.cjx"))
  done = command("score", *map(str, files), "--json", cwd=tmp_path)
  assert done.returncode == 0, done.stderr
  scored = {row["file"].rpartition("/stages/")[2]: row for row in json.loads(done.stdout)}
  with (workdir / "results.csv").open() as file:
    for row in csv.DictReader(file):
      again = scored[row["artifact"].removeprefix("stages/")]
      assert again["test_accuracy"] == float(row["test_accuracy"])
      assert again["artifact_bytes"] == int(row["artifact_bytes"])
  assert command("inspect", str(files[0]), cwd=tmp_path).returncode == 0
  done = command("score", str(workdir / "results.json"), cwd=tmp_path)
  assert done.returncode == 2 and done.stderr.startswith("score: "), done.stderr


def test_only_a_bare_name_is_one_of_the_studies(tmp_path):
  from compress_jax import cli
  assert cli._config("combo:digits").endswith("configs/combo.py:digits")
  assert cli._config("combo.py").endswith("configs/combo.py")
  for path in ("no/such/combo.py:cifar10", "./combo", str(tmp_path / "combo.py")):
    assert cli._config(path) == path

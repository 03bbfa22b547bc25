"""A study on a Ray cluster of two nodes gives what one process gives."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from compress_jax.io import leases

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]


def rows(workdir):
  with (workdir / "results.csv").open() as file:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def launch(workdir, *flags):
  return subprocess.Popen(
      [sys.executable, "launch.py", "--config=configs/joint.py:digits,smoke",
       f"--workdir={workdir}", *flags], cwd=ROOT, text=True, stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT)


def holder_of(workdir, stage):
  """Returns the process that works on a stage, once there is one and has said who it is."""
  while True:
    for folder in workdir.glob(f"stages/{stage}-*/lease"):
      holder = leases.holder(folder)
      # A lease's file is created before it is written.
      if holder is not None and holder.alive() and "pid" in holder.owner:
        return holder.owner["pid"]
    time.sleep(0.05)


def test_two_nodes_give_what_one_process_gives_though_a_task_is_killed(tmp_path):
  alone = launch(tmp_path / "one")
  output = alone.communicate()[0]
  assert alone.returncode == 0, output
  cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
  try:
    cluster.add_node(num_cpus=1)
    driver = launch(tmp_path / "ray", "--executor=ray", f"--address={cluster.address}")
    os.kill(holder_of(tmp_path / "ray", "kd"), signal.SIGKILL)
    output = driver.communicate()[0]
  finally:
    cluster.shutdown()
  assert driver.returncode == 0, output
  assert rows(tmp_path / "ray") == rows(tmp_path / "one")
  assert "kd+imp+q (seed 0): complete" in output
  # The driver only reports.
  assert "stages run now: 0;" in output

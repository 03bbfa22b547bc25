"""`jax.shard_map` under `lift`, on four devices in a process of its own."""

import os
import subprocess
import sys

from tests.transforms import ALL

KINDS = ["int4_rows", "svd"]
if ALL:
  KINDS += ["masked", "int8", "int8_group", "float8", "clustered"]


def test_weights_are_cut_over_devices():
  run = subprocess.run([sys.executable, "-m", "tests.lift.sharded_program", *KINDS],
                       env={**os.environ, "JAX_NUM_CPU_DEVICES": "4"}, capture_output=True,
                       text=True, check=False)
  assert run.returncode == 0 and run.stdout.endswith("done\n"), run.stderr

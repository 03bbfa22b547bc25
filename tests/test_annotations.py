"""Shapes in annotations are true: the examples run with each of them checked by beartype."""

import subprocess
import sys

# In a process of its own: the hook only reaches what has not been imported.
PROGRAM = """
import doctest
import jaxtyping
with jaxtyping.install_import_hook("compress_jax.distill", "beartype.beartype"):
  from compress_jax.distill import ensembles, hints, soft_targets
import jax.numpy as jnp

for module in (ensembles, hints, soft_targets):
  found = doctest.testmod(module)  # prints what fails
  assert found.attempted and not found.failed, module
try:
  soft_targets.cross_entropy(jnp.zeros((2, 3)), jnp.zeros(3, int))
except jaxtyping.TypeCheckError:
  print("checked")
"""


def test_the_examples_fit_the_shapes_that_are_annotated():
  ran = subprocess.run([sys.executable, "-c", PROGRAM], text=True, capture_output=True)
  assert (ran.stdout, ran.returncode) == ("checked\n", 0), ran.stdout + ran.stderr

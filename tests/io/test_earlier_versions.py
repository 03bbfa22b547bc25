"""What version 0.3 wrote still loads, every array with the same bits.

`fixtures/` was written by version 0.3.0: every kind of leaf and grid, as an artifact and as
a checkpoint, and a checksum of each array in a leaf and of what the leaf stands for.
"""

import json
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest

import compress_jax as cj
from compress_jax import inspect

FIXTURES = Path(__file__).parent / "fixtures"
KNOWN = json.loads((FIXTURES / "version_0_3.json").read_text())


def read(kind):
  if kind == "artifact":
    return cj.artifact.load(FIXTURES / "version_0_3.cjx")
  return cj.checkpoint.load(FIXTURES / "version_0_3")


def digest(x):
  x = np.asarray(x)
  if x.dtype.itemsize == 1:
    x = x.view(np.uint8)
  return [str(x.dtype), list(x.shape), zlib.crc32(np.ascontiguousarray(x).tobytes())]


@pytest.mark.parametrize("kind", ["artifact", "checkpoint"])
def test_every_leaf_has_its_type_its_arrays_and_its_meaning(kind):
  found = {}
  for path, leaf in cj.entries(read(kind)[0])[0]:
    for number, x in enumerate(jax.tree.leaves(leaf)):
      dtype = np.asarray(x).dtype.name
      found[f"{kind}|{path}|{type(leaf).__name__}|{number}|{dtype}"] = digest(x)
    # A product of factors is rounded differently from machine to machine.
    if cj.is_leaf(leaf) and not leaf.parts:
      found[f"{kind}|{path}|dense"] = digest(leaf.dense())
  assert found == {name: x for name, x in KNOWN.items() if name.startswith(kind)}
  assert len(found) > 100


@pytest.mark.parametrize("kind", ["artifact", "checkpoint"])
def test_grids_and_static_fields_have_todays_names(kind):
  tree = read(kind)[0]
  kernels = {name: tree[name]["dense"]["kernel"] for name in ("static", "dynamic", "int16")}
  assert isinstance(kernels["static"].input, cj.StaticGrid) and cj.StaticGrid is cj.Activation
  assert isinstance(kernels["dynamic"].input, cj.Dynamic)
  assert kernels["int16"].may_exceed_8_bits and not kernels["static"].may_exceed_8_bits
  assert kernels["static"].dtype == np.float32


def test_written_again_it_is_the_same_tree(tmp_path):
  tree = cj.artifact.load(FIXTURES / "version_0_3.cjx")[0]
  cj.artifact.save(tmp_path / "again.cjx", tree)
  again = cj.artifact.load(tmp_path / "again.cjx")[0]
  assert jax.tree.structure(again) == jax.tree.structure(tree)
  for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(again), strict=True):
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_inspection_reads_both():
  for name in ("version_0_3.cjx", "version_0_3"):
    found = inspect.check(inspect.read(FIXTURES / name))
    assert not found.failures and len(found.leaves) > 50

"""Arrays without elements, 64 bits, and products that no one sees."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compress_jax as cj
from tests.transforms import ALL, GRIDS, OTHERS, PRUNES, assert_same

MAKES = {**GRIDS, **OTHERS, **{name: PRUNES[name] for name in ("magnitude", "layer", "random",
                                                               "n_m", "filters")},
         "block": lambda p: cj.prune.block(p, 0.5, block=(2, 2))}


@pytest.mark.parametrize("name", MAKES if ALL else ["per_group", "layer", "block"])
def test_a_weight_without_elements_goes_through_everything(name):
  params = {"empty": {"kernel": jnp.zeros((0, 4))}, "full": {"kernel": jnp.eye(4)}}
  p = MAKES[name](params)
  frozen = cj.freeze(p)
  assert_same(cj.dense(p), cj.dense(frozen))
  assert frozen["empty"]["kernel"].shape == (0, 4)
  assert_same(cj.artifact.decode(cj.artifact.encode(p))[0], frozen)
  assert cj.size(p).dense == 64 and cj.metrics.sparsity(p)["empty/kernel"] == 0
  out = cj.lift(lambda p, x: x @ p["empty"]["kernel"])(frozen, jnp.ones((2, 0)))
  np.testing.assert_array_equal(out, np.zeros((2, 4)))


X64 = """
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp, compress_jax as cj
w = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 6, 4)))
for make in (lambda p: cj.factorize.svd(p, rank=4, where="w"),
             lambda p: cj.factorize.tucker2(p, rank=(6, 4)),
             lambda p: cj.factorize.spatial(p, rank=12)):
  leaf = make({"w": w})["w"]
  assert leaf.dtype == np.float64 and np.abs(leaf.dense() - w).max() < 1e-12, leaf
w2, apply = {"w": w.reshape(-1, 4)}, lambda p, x: x @ p["w"]
for make in (lambda p: cj.quantize.affine(p, 8), lambda p: cj.quantize.affine(p, 16),
             lambda p: cj.quantize.affine(p, 4, group=6), lambda p: cj.quantize.cast(p, "float16")):
  p = make(w2)
  for tree in (p, cj.freeze(p)):
    for x in (jnp.ones((2, 54)), 1e60 * jnp.ones((2, 54))):
      y = cj.lift(apply)(tree, x)
      assert y.dtype == np.float64 and np.allclose(y, apply(cj.dense(p), x), 1e-5), (p, y)
p = cj.quantize.affine(w2, 8)
p = cj.quantize.calibrate(apply, p, [jnp.ones((2, 54))])
out = [cj.lift(apply)(t, jnp.ones((2, 54))) for t in (p, cj.freeze(p))]
assert out[0].dtype == np.float64 and (out[0] == out[1]).all()
assert cj.artifact.decode(cj.artifact.encode({"w": w}))[0]["w"].dtype == np.float64
alike = jnp.asarray(1 + 1e-12 * np.arange(10)[::-1])  # one number in float32
assert cj.prune.smallest(alike, 0.3).tolist() == 7 * [False] + 3 * [True]
print("right")
"""


def test_64_bits_are_kept():
  done = subprocess.run([sys.executable, "-c", X64], capture_output=True, text=True)
  assert done.stdout == "right\n", done.stderr


def loop(p, x):
  return jax.lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.tanh(c[1] @ p["w"])),
                            (0, x))[1]


def branch(p, x):
  return jax.lax.cond(x.sum() > 0, lambda x: x @ p["w"], lambda x: 2 * x, x)


@pytest.mark.parametrize("apply", [loop, branch])
def test_a_weight_in_a_loop_or_in_one_branch_runs_and_says_that_it_is_not_seen(apply):
  w, x = jax.random.normal(jax.random.key(0), (4, 4)), jnp.ones((2, 4))
  p = cj.quantize.affine({"w": w}, 8)
  for tree in (p, cj.freeze(p)):
    np.testing.assert_allclose(cj.lift(apply)(tree, x), apply(cj.dense(p), x), rtol=1e-5, atol=1e-5)
  assert cj.metrics.operations(apply, p, x) == {}
  with pytest.raises(ValueError, match=r"w: no product .*`while` or in one branch of a `cond`"):
    cj.quantize.calibrate(apply, p, [x])
  with pytest.raises(ValueError, match="batches: calibration needs at least one"):
    cj.quantize.calibrate(apply, p, [])
  given = cj.quantize.dynamic(p)  # needs no data
  run = jax.jit(cj.lift(apply))
  np.testing.assert_array_equal(run(given, x), run(cj.freeze(given), x))

"""jit, vmap and grad of transforms: as eager; numbers are traced, one program a grid."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compress_jax as cj
from tests.transforms import ALL, GRIDS, PRUNES, TRANSFORMS, assert_same, chained, params

NUMBERS = {"sparsity": (0.25, 0.5, 0.75), "bits": (3, 6, 11)}
# One of each structure: what a later transform finds.
STARTS = ["magnitude", "lsq", "cluster", "svd"]


def squares(p):
  return sum((x**2).sum() for x in jax.tree.leaves(cj.dense(p)))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", [*PRUNES, *GRIDS])
def test_one_program_serves_a_grid_looped_and_mapped(name):
  numbers = NUMBERS["sparsity" if name in PRUNES else "bits"]

  def loss(p, number):
    return squares(TRANSFORMS[name](p, number))

  # Raises if one program does not serve all numbers; it counts by a function's name.
  chex.clear_trace_counter()
  looped = jax.jit(jax.value_and_grad(chex.assert_max_traces(loss, n=1)))
  values = [looped(params(), n) for n in numbers]
  stack = lambda *xs: jnp.stack(xs)
  values = jax.tree.map(stack, *values)
  mapped = jax.jit(jax.vmap(jax.value_and_grad(loss), (None, 0)))(params(), jnp.array(numbers))
  eager = jax.tree.map(stack, *[jax.value_and_grad(loss)(params(), n) for n in numbers])
  for other in (mapped, eager):
    chex.assert_trees_all_close(values, other, rtol=1e-4, atol=1e-4)
  assert len(set(np.asarray(values[0]).tolist())) == 3


def traceable(name):
  """Whether a transform's result has a shape that does not depend on values."""
  return name not in ("svd", "fisher", "tucker2", "spatial")


@pytest.mark.slow
@pytest.mark.parametrize("first", STARTS)
def test_every_pair_under_jit_is_as_eager(first):
  start = chained(first)
  names = [n for n in TRANSFORMS if n != first and traceable(n)]
  if not ALL:  # some of them from each: all starts together see all
    names = names[STARTS.index(first)::len(STARTS)]
  both = jax.jit(lambda p: {n: cj.dense(TRANSFORMS[n](p)) for n in names})(start)
  for n in names:
    eager = TRANSFORMS[n](start)
    for a, b in zip(jax.tree.leaves(both[n]), jax.tree.leaves(cj.dense(eager)), strict=True):
      # A value on the edge of two integers may go either way between programs.
      scale = np.abs(np.asarray(b)).max()
      assert (np.abs(np.asarray(a) - np.asarray(b)) > 1e-5 * scale).mean() < 0.02, n


@pytest.mark.slow
@pytest.mark.parametrize("first", STARTS)
def test_vmap_over_a_stack_is_each_by_itself(first):
  one, two = chained(first), jax.tree.map(lambda x: x, chained(first))
  trainable, rest = cj.partition(two)
  two = cj.merge(jax.tree.map(lambda x: 1.5 * x, trainable), rest)
  stack = jax.tree.map(lambda *xs: jnp.stack(xs), one, two)
  mapped = jax.vmap(cj.dense)(stack)
  expected = jax.tree.map(lambda *xs: jnp.stack(xs), cj.dense(one), cj.dense(two))
  for a, b in zip(jax.tree.leaves(mapped), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
  frozen = cj.freeze(one)
  assert_same(jax.jit(cj.dense)(frozen), cj.dense(frozen))

"""Every transform, on one tiny tree: the table that the shared properties run over."""

import functools
import os

import chex
import jax
import jax.numpy as jnp

import compress_jax as cj


def _loss(p):
  return sum((x**2).sum() for x in jax.tree.leaves(p))


def _information():
  return jax.tree.map(lambda x: jnp.abs(x) + 0.1, params())


# Each takes a tree; the ones that prune take the sparsity, the ones on grids the bits.
PRUNES = {
    "magnitude": lambda p, s=0.6: cj.prune.magnitude(p, s),
    "layer": lambda p, s=0.5: cj.prune.magnitude(p, s, scope="layer"),
    "random": lambda p, s=0.5: cj.prune.random(p, s, jax.random.key(1)),
    "snip": lambda p, s=0.5: cj.prune.snip(_loss, p, s),
    "n_m": lambda p, s=0.5: cj.prune.n_m(p, jnp.round(4 * s).astype(jnp.int32), 4),
    "block": lambda p, s=0.5: cj.prune.block(p, s, block=(4, 3)),
    "filters": lambda p, s=0.5: cj.prune.filters(p, s),
}
GRIDS = {
    "affine": lambda p, bits=8: cj.quantize.affine(p, bits),
    "asymmetric": lambda p, bits=4: cj.quantize.affine(p, bits, symmetric=False),
    "per_tensor": lambda p, bits=2: cj.quantize.affine(p, bits, axis=None),
    "per_group": lambda p, bits=4: cj.quantize.affine(p, bits, group=2),
    "int16": lambda p, bits=16: cj.quantize.affine(p, bits),
    "lsq": lambda p, bits=4: cj.quantize.learned(p, bits),
}
OTHERS = {
    "float16": lambda p: cj.quantize.cast(p, "float16"),
    "float8": lambda p: cj.quantize.cast(p, "float8_e4m3fn"),
    "cluster": lambda p: cj.quantize.cluster(p, 7, iterations=5),
}
FACTORS = {
    "svd": lambda p: cj.factorize.svd(p, rank=4, where="kernel"),
    "fisher": lambda p: cj.factorize.svd(p, rank=4, fisher=_information(), where="kernel"),
    "tucker2": lambda p: cj.factorize.tucker2(p, rank=(4, 4)),
    "spatial": lambda p: cj.factorize.spatial(p, rank=4),
}
KEEP_TENSOR = PRUNES | GRIDS | OTHERS
TRANSFORMS = KEEP_TENSOR | FACTORS
# All pairs take minutes to compile: CI (`ALL=1`) runs them, the test command some.
ALL = bool(os.environ.get("ALL"))
_STEP = 1 if ALL else 19


def params():
  keys = jax.random.split(jax.random.key(3), 2)
  return {"conv": {"kernel": jax.random.normal(keys[0], (3, 3, 4, 6)), "bias": jnp.ones(6)},
          "dense": {"kernel": jax.random.normal(keys[1], (16, 12))}}


def chained(*names):
  """Returns the tree after the named transforms."""
  p = params()
  for name in names:
    p = TRANSFORMS[name](p)
  return p


@functools.cache
def chains(first):
  """Returns {name: tree} of a transform alone, and of its pairs: one, or all if ALL."""
  start, at = chained(first), list(TRANSFORMS).index(first)
  thens = [then for i, then in enumerate(TRANSFORMS)
           if then != first and (i + at) % _STEP == 0]
  return {first: start} | {f"{first}+{then}": TRANSFORMS[then](start) for then in thens}


def assert_same(a, b):
  """Asserts equal structure (types and static fields), dtypes and bits."""
  chex.assert_trees_all_equal(a, b, strict=True)


def assert_own_buffers(p):
  """Asserts that no two arrays of a tree lie in one buffer: a program can be donated each once."""
  seen = {}
  for path, x in jax.tree_util.tree_flatten_with_path(p)[0]:
    first = seen.setdefault(x.unsafe_buffer_pointer(), path)
    assert first is path, (jax.tree_util.keystr(first), jax.tree_util.keystr(path))

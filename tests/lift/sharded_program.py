"""Weights of every kind under `jax.shard_map` on four devices; `test_sharded.py` runs it."""

import functools
import sys

import jax
import numpy as np
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import compress_jax as cj

W = {"w": jax.random.normal(jax.random.key(0), (8, 12))}
X = jax.random.normal(jax.random.key(1), (4, 8))
LEAVES = {
    "masked": cj.prune.magnitude(W, 0.5),
    "int8": cj.quantize.affine(W, 8),
    "int4_rows": cj.quantize.affine(W, 4, axis=0, symmetric=False),
    "int8_group": cj.quantize.affine(cj.prune.magnitude(W, 0.3), 8, group=2),
    "float8": cj.quantize.cast(W, "float8_e4m3fn"),
    "clustered": cj.quantize.cluster(cj.prune.magnitude(W, 0.5), 5),
    "svd": cj.quantize.affine(cj.factorize.svd(W, rank=3), 8),
}


# Not at import: only the process of its own has four devices.
@functools.cache
def mesh(kind=AxisType.Auto):
  return jax.make_mesh((2, 2), ("data", "model"), axis_types=(kind,) * 2)


def replicated(params, x):
  """Batches over all devices, the whole weight on each."""
  return jax.shard_map(lambda w, x: x @ w, mesh=mesh(), in_specs=(P(), P(("data", "model"))),
                       out_specs=P(("data", "model")))(params["w"], x)


def columns(params, x):
  """Columns of the weight over one axis, batches over the other."""
  return jax.shard_map(lambda w, x: x @ w, mesh=mesh(), in_specs=(P(None, "model"), P("data")),
                       out_specs=P("data", "model"))(params["w"], x)


def rows(params, x):
  """Rows of the weight over an axis, which is summed over."""
  return jax.shard_map(lambda w, x: jax.lax.psum(x @ w, "model"), mesh=mesh(),
                       in_specs=(P("model"), P(None, "model")), out_specs=P())(params["w"], x)


def all_rows(params, x):
  """Rows over all devices, unchecked."""
  return jax.shard_map(lambda w, x: jax.lax.psum(x @ w, ("data", "model")), mesh=mesh(),
                       in_specs=(P(("data", "model")), P(None, ("data", "model"))), out_specs=P(),
                       check_vma=False)(params["w"], x)


def check(apply, params):
  """The same result as with the dense weight, and the same gradients."""
  want = apply(cj.dense(params), X)
  for tree in (params, cj.freeze(params)):
    np.testing.assert_allclose(jax.jit(cj.lift(apply))(tree, X), want, rtol=1e-4, atol=1e-4)
  trainable, rest = cj.partition(params)
  grads = []
  for run in (cj.lift(apply), lambda p, x: apply(cj.dense(p), x)):
    loss = lambda t, run=run: (run(cj.merge(t, rest), X)**2).sum()
    grads.append(jax.tree.leaves(jax.jit(jax.grad(loss))(trainable)))
  for ours, theirs in zip(*grads, strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)


def check_observers():
  """What looks at products sees each device's, and a grid that groups share is not cut."""
  params = LEAVES["int8"]
  assert cj.metrics.operations(columns, params, X)["w"].multiply_adds == 4 * 8 * 12
  calibrated = cj.quantize.calibrate(columns, params, [X])
  plain = cj.quantize.calibrate(lambda p, x: x @ p["w"], params, [X])
  assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), calibrated, plain))
  deployed = cj.freeze(calibrated)
  same = cj.lift(lambda p, x: x @ p["w"])(deployed, X)
  np.testing.assert_array_equal(cj.lift(columns)(deployed, X), same)


def check_refusals():
  """What cannot be cut says so, and can be whole on every device."""
  for apply, params, why in (
      (columns, cj.quantize.learned(W, 4), "while its step trains"),
      (columns, cj.freeze(cj.prune.block(W, 0.5, block=(4, 4))), "laid out"),
      (all_rows, cj.quantize.affine(W, 8, group=4), "group that shares a grid")):
    try:
      cj.lift(apply)(params, X)
    except cj.NoRule as error:
      assert "shard_map on w" in str(error) and why in str(error), error
    else:
      raise AssertionError(f"{why}: not refused")
    np.testing.assert_allclose(cj.lift(replicated)(params, X), X @ cj.dense(params)["w"],
                               rtol=1e-4, atol=1e-4)


def check_explicit_mesh():
  """Where an array's type says how it is sharded, the leaf's does too."""
  with jax.set_mesh(mesh(AxisType.Explicit)):
    params = {"w": jax.device_put(W["w"], P(None, "model"))}
    apply = lambda p, x: jax.shard_map(
      lambda w, x: x @ w, in_specs=(P(None, "model"), P("data")),
      out_specs=P("data", "model"))(p["w"], x)
    deployed = cj.freeze(cj.quantize.affine(params, 8))
    found = cj.lift(apply)(deployed, jax.device_put(X, P("data")))
  np.testing.assert_allclose(found, X @ cj.dense(deployed)["w"], rtol=1e-4, atol=1e-4)


if __name__ == "__main__":
  for name in sys.argv[1:]:
    params = LEAVES[name]
    for apply in (replicated, columns, rows):
      check(apply, params)
    if name != "int8_group":
      check(all_rows, params)
    print(name, "agrees")
  check_observers()
  check_refusals()
  check_explicit_mesh()
  print("done")

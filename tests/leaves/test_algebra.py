"""Properties that every leaf and every order of transforms has."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import compress_jax as cj
from compress_jax.tree import path_str

TRANSFORMS = {
    "prune": lambda p: cj.prune.magnitude(p, 0.6),
    "prune_layer": lambda p: cj.prune.magnitude(p, 0.5, scope="layer"),
    "int8": lambda p: cj.quantize.affine(p, 8),
    "int4_asymmetric": lambda p: cj.quantize.affine(p, 4, symmetric=False),
    "int2_tensor": lambda p: cj.quantize.affine(p, 2, axis=None),
    "lsq": lambda p: cj.quantize.learned(p, 4),
    "cluster": lambda p: cj.quantize.cluster(p, 7, iterations=5),
    "svd": lambda p: cj.factorize.svd(p, rank=3),
}
KEEPS_TENSOR = [n for n in TRANSFORMS if n != "svd"]
CHAINS = [(n,) for n in TRANSFORMS] + list(itertools.permutations(TRANSFORMS, 2))


def params():
  keys = jax.random.split(jax.random.key(3), 3)
  return {"conv": {"kernel": jax.random.normal(keys[0], (3, 3, 4, 6)), "bias": jnp.ones(6)},
          "dense": {"kernel": jax.random.normal(keys[1], (16, 10))}}


def chained(names):
  p = params()
  for name in names:
    p = TRANSFORMS[name](p)
  return p


def assert_same(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    assert x.dtype == y.dtype
    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("names", CHAINS, ids="+".join)
def test_freezing_keeps_every_bit_and_files_keep_every_leaf(names, tmp_path):
  p = chained(names)
  frozen = cj.freeze(p)
  assert_same(cj.dense(p), cj.dense(frozen))
  assert_same(cj.freeze(frozen), frozen)
  cj.artifact.save(tmp_path / "m.cjx", p, name="x")
  loaded, metadata = cj.artifact.load(tmp_path / "m.cjx")
  assert_same(loaded, frozen)
  assert metadata == {"name": "x"}
  cj.artifact.save(tmp_path / "bare.cjx", p)
  assert cj.size(p).artifact == (tmp_path / "bare.cjx").stat().st_size


@pytest.mark.parametrize("names", CHAINS, ids="+".join)
def test_partition_shows_the_optimizer_only_what_trains(names):
  p = chained(names)
  trainable, rest = cj.partition(p)
  assert_same(cj.merge(trainable, rest), p)
  paths = [path_str(path) for path, _ in jax.tree_util.tree_flatten_with_path(trainable)[0]]
  fields = {path.rpartition("/")[2] for path in paths}
  assert fields <= {"kernel", "bias", "value", "u", "v", "codebook", "scale"}
  assert "lsq" in names or "scale" not in fields
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(trainable))
  loss = lambda t: sum((x**2).sum() for x in jax.tree.leaves(cj.dense(cj.merge(t, rest))))
  grads = jax.grad(loss)(trainable)
  assert jax.tree.structure(grads) == jax.tree.structure(trainable)
  assert any(np.abs(g).max() > 0 for g in jax.tree.leaves(grads))


@pytest.mark.parametrize("names", CHAINS[:len(TRANSFORMS)] + CHAINS[len(TRANSFORMS)::5],
                         ids="+".join)
def test_checkpoint_returns_types_and_static_fields(names, tmp_path):
  for tree in (chained(names), cj.freeze(chained(names))):
    cj.checkpoint.save(tmp_path / "c", tree, names=list(names))
    loaded, metadata = cj.checkpoint.load(tmp_path / "c")
    assert_same(loaded, tree)
    assert metadata == {"names": list(names)}


OPTIMIZERS = {"sgd": optax.sgd(0.1, momentum=0.9), "adam": optax.adam(0.05),
              "adamw": optax.adamw(0.05, weight_decay=0.1)}


# Every pair of later transforms, the optimizers taking turns; each of those on the mask alone.
LATER = [((), name) for name in OPTIMIZERS] + list(zip(
    itertools.permutations(KEEPS_TENSOR[1:], 2), itertools.cycle(OPTIMIZERS), strict=False))


@pytest.mark.parametrize("later,optimizer", LATER,
                         ids=lambda x: x if isinstance(x, str) else "+".join(x))
def test_the_mask_survives_transforms_and_training(later, optimizer):
  p = TRANSFORMS["prune"](params())
  zero = {k: np.asarray(cj.dense(p)[k]["kernel"]) == 0 for k in p}
  assert sum(z.sum() for z in zero.values()) == round(0.6 * (216 + 160))
  for name in later:
    p = TRANSFORMS[name](p)
  trained = _fifty_steps(p, OPTIMIZERS[optimizer])
  loaded = cj.artifact.decode(cj.artifact.encode(trained))[0]
  for tree in (cj.dense(trained), cj.dense(cj.freeze(trained)), cj.dense(loaded)):
    for k, z in zero.items():
      assert (np.asarray(tree[k]["kernel"])[z] == 0).all()
  moved = [(a != b).any() for a, b in zip(jax.tree.leaves(cj.partition(p)[0]),
                                          jax.tree.leaves(cj.partition(trained)[0]), strict=True)]
  assert any(moved)


def _fifty_steps(p, optimizer):
  trainable, rest = cj.partition(p)
  target = jax.tree.map(lambda x: x + 0.5, params())

  def loss(t):
    errors = jax.tree.map(lambda a, b: ((a - b)**2).sum(), cj.dense(cj.merge(t, rest)), target)
    return sum(jax.tree.leaves(errors))

  def step(_, carry):
    t, state = carry
    updates, state = optimizer.update(jax.grad(loss)(t), state, t)
    return optax.apply_updates(t, updates), state

  run = jax.jit(lambda t, s: jax.lax.fori_loop(0, 50, step, (t, s)))
  return cj.merge(run(trainable, optimizer.init(trainable))[0], rest)


def test_numbers_are_traced_one_program_serves_the_grid():
  compiled = []

  @jax.jit
  def loss(p, sparsity, bits):
    compiled.append(1)
    return sum((x**2).sum() for x in
               jax.tree.leaves(cj.dense(cj.quantize.affine(cj.prune.magnitude(p, sparsity), bits))))

  grid = [(s, b) for s in (0.0, 0.5, 0.9) for b in (2, 4, 8)]
  looped = np.array([loss(params(), s, b) for s, b in grid])
  assert len(compiled) == 1
  mapped = jax.vmap(lambda s, b: loss(params(), s, b))(*map(jnp.array, zip(*grid, strict=True)))
  np.testing.assert_allclose(mapped, looped, rtol=1e-5)
  eager = [sum(float((x**2).sum()) for x in jax.tree.leaves(cj.dense(
      cj.quantize.affine(cj.prune.magnitude(params(), s), b)))) for s, b in grid]
  np.testing.assert_allclose(looped, eager, rtol=1e-5)


@given(st.integers(1, 7), st.integers(1, 9), st.integers(2, 16), st.booleans(), st.data())
def test_any_matrix_survives_the_file(rows, columns, bits, symmetric, data):
  seed = data.draw(st.integers(0, 2**31))
  w = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
  sparsity = data.draw(st.sampled_from([0.0, 0.3, 1.0]))
  p = cj.quantize.affine(cj.prune.magnitude({"w": jnp.asarray(w)}, sparsity), bits,
                         symmetric=symmetric)
  frozen = cj.freeze(p)
  assert_same(cj.dense(p), cj.dense(frozen))
  assert_same(cj.artifact.decode(cj.artifact.encode(p))[0], frozen)
  step = np.asarray(p["w"].scale)
  kept = np.asarray(p["w"].value.mask)
  error = np.abs(np.asarray(cj.dense(p)["w"]) - w)[kept]
  assert (error <= (0.5001 + (not symmetric)) * np.broadcast_to(step, w.shape)[kept]).all()


def test_freezing_traced_bits_says_what_to_do():
  with pytest.raises(ValueError, match="bits is traced.*outside jit"):
    jax.jit(lambda b: cj.freeze(cj.quantize.affine(params(), b)))(8)

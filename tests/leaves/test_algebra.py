"""Properties of every leaf that any transform, or any ordered pair of them, makes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import compress_jax as cj
from compress_jax.paths import path_str
from tests.transforms import TRANSFORMS, assert_own_buffers, assert_same, chains, params


@pytest.mark.slow
@pytest.mark.sampled(2)
@pytest.mark.parametrize("first", TRANSFORMS)
def test_freezing_and_files_keep_every_bit(first):
  for name, p in chains(first).items():
    frozen = cj.freeze(p)
    assert_same(cj.dense(p), cj.dense(frozen))
    assert_same(cj.freeze(frozen), frozen)
    loaded, metadata = cj.artifact.decode(cj.artifact.encode(p, name=name))
    assert_same(loaded, frozen)
    assert metadata == {"name": name}


@pytest.mark.slow
@pytest.mark.sampled(2)
@pytest.mark.parametrize("first", TRANSFORMS)
def test_every_array_has_a_buffer_of_its_own(first):
  for p in chains(first).values():
    for tree in (p, cj.freeze(p), cj.artifact.decode(cj.artifact.encode(p))[0]):
      assert_own_buffers(tree)


@pytest.mark.slow
@pytest.mark.sampled(2)
@pytest.mark.parametrize("first", TRANSFORMS)
def test_size_is_the_sum_of_the_payloads_bits(first):
  for p in chains(first).values():
    everything = cj.artifact.payloads(cj.freeze(p))
    bits = 0
    for payload in everything.values():
      kept = payload.array.size
      if payload.keep is not None:
        kept = int(np.asarray(everything[payload.keep].array).sum())
      bits += kept * payload.bits
    size = cj.size(p)
    assert size.packed == -(-bits // 8)


@pytest.mark.slow
@pytest.mark.sampled(2)
@pytest.mark.parametrize("first", TRANSFORMS)
def test_the_optimizer_sees_exactly_what_trains(first):
  for name, p in chains(first).items():
    trainable, rest = cj.partition(p)
    assert_same(cj.merge(trainable, rest), p)
    paths = [path_str(path) for path, _ in jax.tree_util.tree_flatten_with_path(trainable)[0]]
    assert sorted(paths) == sorted(_expected_to_train(p)), name
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(trainable))
    loss = lambda t, rest=rest: sum((x**2).sum() for x in
                                    jax.tree.leaves(cj.dense(cj.merge(t, rest))))
    grads = jax.grad(loss)(trainable)
    assert jax.tree.structure(grads) == jax.tree.structure(trainable)
    assert any(np.abs(g).max() > 0 for g in jax.tree.leaves(grads))


def _expected_to_train(p):
  """Returns the paths of what a reader of the leaves' documentation expects to train."""
  def inside(x, path):
    if not cj.is_leaf(x):
      return [path]
    names = {"Masked": ["value"], "FakeFloat": ["value"], "Clustered": ["codebook"],
             "LowRank": ["u", "v"], "Tucker2": ["u", "core", "v"],
             "Spatial": ["vertical", "horizontal"],
             "FakeQuant": ["value", "scale"] if getattr(x, "learned", False) else ["value"]}
    return [q for n in names[type(x).__name__] for q in inside(getattr(x, n), f"{path}/{n}")]
  return [q for path, x in cj.entries(p)[0] for q in inside(x, path)]


@pytest.mark.slow
@pytest.mark.sampled(2)
@pytest.mark.parametrize("first", TRANSFORMS)
def test_a_checkpoint_returns_types_and_static_fields(first, tmp_path):
  # One checkpoint of every pair: Orbax takes as long for a small tree as for a large one.
  made = chains(first)
  tree = {"trained": made, "frozen": cj.freeze(made)}
  tree = {kind: {name.replace("+", "-"): p for name, p in one.items()}
          for kind, one in tree.items()}
  cj.checkpoint.save(tmp_path / "c", tree, first=first)
  loaded, metadata = cj.checkpoint.load(tmp_path / "c")
  assert_same(loaded, tree)
  assert metadata == {"first": first}


# Few shapes: each is compiled anew.
@given(st.sampled_from([(1, 1), (3, 5), (7, 2)]), st.integers(2, 16), st.booleans(), st.data())
def test_any_matrix_survives_the_file(shape, bits, symmetric, data):
  seed = data.draw(st.integers(0, 2**31))
  w = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
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

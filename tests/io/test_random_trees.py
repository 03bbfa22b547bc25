"""Random trees of any containers, keys, dtypes and sizes: what comes back is the same."""

import collections
import os

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

import compress_jax as cj
from compress_jax.io import leaf_summary
from tests.io import trees

EXAMPLES = 400 if os.environ.get("ALL") else 20
DTYPES = ["bool", "int8", "uint8", "int16", "int32", "uint32", "int64", "float64", "float32",
          "float16", "bfloat16", "int4", "uint4", "float8_e4m3fn", "complex64"]
# Names that paths, fields of leaves and files give a meaning to are among them.
TEXTS = st.one_of(st.sampled_from(["a", "b", "a/b", "", "/", "w", "mask", "w/mask", "value", "0",
                                   "#2", "a/b#2", ".", "..", "~1", "array", "type", "dict"]),
                  st.text(max_size=4).filter(lambda text: text.isprintable()))
INTEGERS = st.integers(-3, 12)


def array(dtype, shape, seed):
  """Returns an array of random bits: NaN, infinities and -0.0 are among its floats."""
  rng = np.random.default_rng(seed)
  dtype = jnp.dtype(dtype)
  if dtype in (jnp.bool_, jnp.int4, jnp.uint4):
    return rng.integers(0, 2, shape).astype(dtype)
  size = int(np.prod(shape)) * dtype.itemsize
  return np.frombuffer(rng.bytes(size), dtype).reshape(shape)


def on_device(x):
  """Returns a JAX array where JAX has the dtype as it is configured."""
  made = jnp.asarray(x)
  return made if made.dtype == x.dtype else x


SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)
ARRAYS = st.builds(array, st.sampled_from(DTYPES), SHAPES, st.integers(0, 99))
WEIGHT = trees.w()
LEAVES = st.sampled_from([
    cj.prune.magnitude(WEIGHT, 0.5), cj.quantize.affine(WEIGHT, 4), cj.quantize.cluster(WEIGHT, 3),
    cj.quantize.affine(cj.prune.magnitude(WEIGHT, 0.5), 8), cj.factorize.svd(WEIGHT, rank=1),
    cj.StaticGrid(jnp.float32(0.5), jnp.int8(3), jnp.int32(8))])
KEYS = st.sampled_from([jax.random.key(1), jax.random.key(2, impl="rbg"), jax.random.PRNGKey(3),
                        jax.random.split(jax.random.key(4), 3)])
ONES = st.one_of(ARRAYS, ARRAYS.map(on_device), LEAVES, KEYS, st.none())


def dicts(children):
  """Dicts whose keys JAX can sort, and mappings whose keys it need not."""
  keyed = [st.dictionaries(keys, children, max_size=4)
           for keys in (TEXTS, INTEGERS, st.tuples(TEXTS, INTEGERS))]
  mixed = st.dictionaries(st.one_of(TEXTS, INTEGERS), children, max_size=4)
  text = st.dictionaries(TEXTS, children, max_size=3)
  # Flax makes plain dicts of the mappings in it, mixed keys or not.
  frozen = st.dictionaries(TEXTS, ONES, max_size=3).map(FrozenDict)
  return st.one_of(*keyed, mixed.map(collections.OrderedDict), frozen,
                   text.map(lambda found: collections.defaultdict(list, found)))


def sequences(children):
  """Lists, tuples, and classes that hold what they are given."""
  return st.one_of(
      st.lists(children, max_size=3), st.lists(children, max_size=3).map(tuple),
      st.lists(children, max_size=3).map(lambda found: trees.Unnamed(*found)),
      st.builds(trees.State, children, children, children),
      st.builds(trees.Layer, children, children, name=TEXTS))


TREES = st.recursive(ONES, lambda children: st.one_of(dicts(children), sequences(children)),
                     max_leaves=8)


@settings(max_examples=EXAMPLES)
@given(TREES)
def test_artifact(tree):
  data = cj.artifact.encode(tree)
  frozen = cj.freeze(tree)
  trees.same(cj.artifact.decode(data, like=tree)[0], frozen)
  plain = cj.artifact.decode(data)[0]
  trees.same(cj.artifact.decode(cj.artifact.encode(plain))[0], plain)
  trees.same(cj.artifact.decode(cj.artifact.encode(plain), like=tree)[0], frozen)


@settings(max_examples=EXAMPLES)
@given(TREES)
def test_checkpoint(tmp_path_factory, tree):
  path = tmp_path_factory.mktemp("random") / "step"
  cj.checkpoint.save(path, tree)
  assert cj.checkpoint.check(path) == []
  trees.same(cj.checkpoint.load(path, like=tree)[0], tree)


@settings(max_examples=EXAMPLES)
@given(TREES)
def test_size_counts_every_array_once(tree):
  size = cj.size(tree)
  assert size.artifact == len(cj.artifact.encode(tree))
  summary = leaf_summary.summarize(tree)
  assert len({leaf.path for leaf in summary}) == len(summary)
  assert size.dense == -(-sum(leaf.dense_bytes for leaf in summary) // 1)
  assert size.packed >= 0 and size.nonzero <= size.packed + 1


@settings(max_examples=EXAMPLES)
@given(TREES)
def test_partition(tree):
  trainable, rest = cj.partition(tree)
  trees.same(cj.merge(trainable, rest), tree)
  assert all(jnp.issubdtype(x.dtype, jnp.inexact) for x in jax.tree.leaves(trainable))


@settings(max_examples=EXAMPLES)
@given(TREES)
def test_safetensors_has_every_array(tmp_path_factory, tree):
  path = tmp_path_factory.mktemp("random") / "file"
  try:
    cj.export.safetensors(path, tree)
  except ValueError as error:
    # Keys that look like a leaf's field, and dtypes that the format has not.
    assert "would be named" in str(error) or "safetensors cannot store" in str(error)
    return
  with safe_open(path, "numpy") as file:
    assert len(list(file.keys())) == len(jax.tree.leaves(cj.freeze(tree)))

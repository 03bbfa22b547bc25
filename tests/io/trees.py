"""Trees of every container that models are made of, and how to compare two."""

import collections
import dataclasses
import enum
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.core import FrozenDict

import compress_jax as cj


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Layer:
  """A dataclass registered as a pytree, one field of it static."""

  w: object
  b: object
  name: str = dataclasses.field(default="layer", metadata={"static": True})


class State(NamedTuple):
  """A namedtuple, as optimizers have them."""

  count: object
  mu: object
  nu: object


@jax.tree_util.register_pytree_node_class
class Unnamed:
  """A container that gives JAX no names of its parts."""

  def __init__(self, *parts):
    self.parts = parts

  def tree_flatten(self):
    return self.parts, None

  @classmethod
  def tree_unflatten(cls, _, parts):
    return cls(*parts)


class Nnx(nnx.Module):
  """Lists of layers, one in a Sequential; a function, statistics and a stream of keys."""

  def __init__(self, rngs):
    self.layers = nnx.List([nnx.Linear(4, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs)])
    self.tail = nnx.Sequential(nnx.Dropout(0.5, rngs=rngs), nnx.Linear(4, 3, rngs=rngs),
                               jax.nn.relu)

  def __call__(self, x):
    for layer in self.layers:
      x = layer(x)
    return self.tail(x)


class Equinox(eqx.Module):
  """Arrays, numbers, functions in a list, None and a static field."""

  layers: list
  dropout: eqx.nn.Dropout
  scale: jax.Array
  label: str
  size: int = eqx.field(static=True)

  def __init__(self, key):
    self.layers = [eqx.nn.Linear(4, 4, key=key), jax.nn.relu,
                   eqx.nn.Linear(4, 3, use_bias=False, key=key)]
    self.dropout = eqx.nn.Dropout(0.5, inference=True)
    self.scale, self.label, self.size = jnp.float32(2), "small", 4

  def __call__(self, x):
    for layer in self.layers:
      x = layer(x)
    return self.dropout(x) * self.scale


class Name(str, enum.Enum):  # noqa: UP042
  """Strings with names of their own, as keys; unlike a StrEnum's, they print as these names."""

  FIRST = "one"
  SECOND = "two"


@jax.tree_util.register_pytree_with_keys_class
class Alike:
  """A container whose parts' names read the same."""

  def __init__(self, *parts):
    self.parts = parts

  def tree_flatten_with_keys(self):
    return tuple(zip(map(jax.tree_util.DictKey, (0, "0")), self.parts, strict=True)), None

  @classmethod
  def tree_unflatten(cls, _, parts):
    return cls(*parts)


def w(rows=4, columns=4):
  return jnp.asarray(np.random.default_rng(0).normal(size=(rows, columns)), jnp.float32)


def every_kind():
  """Returns {name: tree}, each of a kind that version 0.3 refused or changed."""
  nnx_model = Nnx(nnx.Rngs(0))
  state = nnx.split(nnx_model)[1]
  return {
      "frozen_dict": FrozenDict({"b": w(), "a": FrozenDict({"c": w()})}),
      "ordered_dict": collections.OrderedDict(b=w(), a=w(2, 2)),
      "default_dict": collections.defaultdict(list, b=w(), a=w(2, 2)),
      "namedtuple": State(jnp.int32(3), {"w": w()}, {}),
      "dataclass": [Layer(w(), None), Layer(w(), w(1, 4), name="other")],
      "named_keys": {Name.SECOND: w(), Name.FIRST: w(2, 2)},
      "numpy_keys": {np.int64(2): w(), np.int64(1): w(2, 2)}, "alike": Alike(w(), w(2, 2)),
      "unnamed": Unnamed(w(), [w(2, 2)]),
      "integer_keys": {3: w(), 1: {0: w(2, 2)}},
      "tuple_keys": {("params", "w"): w(), ("params", "b"): w(1, 4)},
      "slashes": {"a/b": w(), "a": {"b": w(2, 2)}, "": {"": w()}},
      "fields_and_slashes": {"w": cj.prune.magnitude(w(), 0.5), "w/mask": w(), "w/value": w()},
      "keys": {"typed": jax.random.key(3), "raw": jax.random.PRNGKey(3),
               "many": jax.random.split(jax.random.key(1, impl="rbg"), 2)},
      "nnx_module": nnx_model, "nnx_state": state, "nnx_dict": nnx.to_pure_dict(state),
      "equinox": Equinox(jax.random.key(0))}


def same(a, b):
  """Asserts that two trees have one structure (classes, keys, order), and the same bits."""
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    if not hasattr(x, "dtype"):
      assert x is y or (type(x) is type(y) and x == y)
      continue
    assert np.dtype(x.dtype) == y.dtype if not is_key(x) else x.dtype == y.dtype
    x, y = (np.asarray(jax.random.key_data(v) if is_key(v) else v) for v in (x, y))
    assert x.shape == y.shape and x.tobytes() == y.tobytes()


def is_key(x):
  return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)

"""One small convolutional model in each of three libraries, as the workflow takes it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

CLASSES = 5


@dataclasses.dataclass(frozen=True)
class Model:
  """What the workflow needs of a model.

  Attributes:
    params: any pytree, the library's own.
    apply: called as `apply(params, images)`.
    axis: of a weight, along which its outputs lie.
    factorized: `where=` of the layer that is factorized.
  """

  params: Any
  apply: Callable[[Any, jax.Array], jax.Array]
  axis: int
  factorized: str


class _Linen(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.BatchNorm(use_running_average=True)(nn.Conv(4, (3, 3))(x)))
    x = nn.relu(nn.Conv(8, (3, 3), strides=2, padding="VALID")(x))
    x = nn.relu(nn.Dense(16)(x.reshape(x.shape[0], -1)))
    return nn.Dense(CLASSES)(x)


def linen(seed: int) -> Model:
  """Linen's variables: parameters and batch statistics."""
  model = _Linen()
  variables = jax.jit(model.init)(jax.random.key(seed), jnp.ones((1, 8, 8, 3)))
  return Model(variables, model.apply, -1, "Dense_0/kernel")


class _Nnx(nnx.Module):
  def __init__(self, rngs):
    self.features = nnx.List([
        nnx.Sequential(nnx.Conv(3, 4, (3, 3), rngs=rngs), nnx.BatchNorm(4, rngs=rngs), jax.nn.relu),
        nnx.Sequential(nnx.Conv(4, 8, (3, 3), strides=2, padding="VALID", rngs=rngs), jax.nn.relu)])
    self.hidden = nnx.Linear(72, 16, rngs=rngs)
    self.dropout = nnx.Dropout(0.1, rngs=rngs)
    self.head = nnx.Linear(16, CLASSES, rngs=rngs)

  def __call__(self, x):
    for block in self.features:
      x = block(x)
    x = jax.nn.relu(self.hidden(x.reshape(x.shape[0], -1)))
    return self.head(self.dropout(x))


def nnx_model(seed: int) -> Model:
  """NNX's State: parameters, batch statistics and the keys of dropout, in lists of layers."""
  model = _Nnx(nnx.Rngs(seed))
  model.eval()
  graph, state = nnx.split(model)
  return Model(state, lambda params, x: nnx.merge(graph, params)(x), -1, "hidden/kernel")


class _Equinox(eqx.Module):
  features: list
  hidden: eqx.nn.Linear
  head: eqx.nn.Linear

  def __init__(self, key):
    keys = jax.random.split(key, 4)
    self.features = [eqx.nn.Conv2d(3, 4, 3, padding="SAME", key=keys[0]), jax.nn.relu,
                     eqx.nn.Conv2d(4, 8, 3, stride=2, key=keys[1]), jax.nn.relu]
    self.hidden = eqx.nn.Linear(72, 16, key=keys[2])
    self.head = eqx.nn.Linear(16, CLASSES, key=keys[3])

  def __call__(self, image):
    x = jnp.moveaxis(image, -1, 0)  # Equinox has channels first
    for layer in self.features:
      x = layer(x)
    return self.head(jax.nn.relu(self.hidden(x.reshape(-1))))


def equinox(seed: int) -> Model:
  """An Equinox module without what is not an array; its weights are (out, in)."""
  params, static = eqx.partition(_Equinox(jax.random.key(seed)), eqx.is_array)
  apply = lambda params, x: jax.vmap(eqx.combine(params, static))(x)
  return Model(params, apply, 0, "hidden/weight")


MODELS = {"linen": linen, "nnx": nnx_model, "equinox": equinox}


def images(count: int) -> tuple[jax.Array, jax.Array]:
  """Returns images (count, 8, 8, 3) and labels (count,)."""
  keys = jax.random.split(jax.random.key(0), 2)
  return (jax.random.normal(keys[0], (count, 8, 8, 3)),
          jax.random.randint(keys[1], (count,), 0, CLASSES))

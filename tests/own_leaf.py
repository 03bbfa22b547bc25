"""A leaf as a user writes it, in a module of their own: binary weights (XNOR-Net).

Rastegari et al. 2016, "XNOR-Net", section 3.1: the signs of the weights, times the mean
magnitude of each output's.
"""

import jax
import jax.numpy as jnp
import numpy as np

import compress_jax as cj


def binarize(params, where=None):
  """Makes the selected weights binary; they train on."""
  return cj.transform(params, where, lambda path, x: FakeBinary(cj.dense(x)))


@jax.custom_jvp
def sign(x):
  """Returns 1 or -1, with the straight-through gradient within -1 and 1."""
  return jnp.where(x >= 0, 1.0, -1.0)


@sign.defjvp
def _sign_jvp(primals, tangents):
  return sign(*primals), jnp.where(jnp.abs(primals[0]) <= 1, tangents[0], 0)


class Signs(cj.Leaf):
  """What both forms have in common: they stand for `scale() * signs()`."""

  def dense(self):
    return self.signs() * self.scale()

  def weight_bits(self):
    return 1


@cj.node
class FakeBinary(Signs):
  """The trainable form: float values that act as if they were binary."""

  value: jax.Array

  trains = ("value",)
  laid_out = ("value",)
  shape = property(lambda self: self.value.shape)
  dtype = property(lambda self: self.value.dtype)

  def signs(self):
    return sign(self.value)

  def scale(self):
    return jnp.abs(self.value).mean(tuple(range(self.ndim - 1)), keepdims=True)

  def freeze(self):
    return Binary(self.signs().astype(jnp.int8), self.scale())


@cj.node
class Binary(Signs):
  """The deployed form: signs, one bit each, and a float for every output."""

  stored: jax.Array
  scales: jax.Array

  exact = ("scales",)
  laid_out = ("stored", "scales")
  shape = property(lambda self: self.stored.shape)
  dtype = property(lambda self: self.scales.dtype)

  def signs(self):
    return self.stored.astype(self.dtype)

  def scale(self):
    return self.scales

  def freeze(self):
    return self

  def payload(self):
    return super().payload() | {"stored": cj.Payload(self.stored, bits=1)}

  def validate(self):
    super().validate()
    if not np.isin(np.asarray(self.stored), (-1, 1)).all():
      raise ValueError("Binary.stored: must hold 1 and -1 only")


@cj.register_product(FakeBinary)
@cj.register_product(Binary)
def apply(interpreter, op, x, w):
  """Adds and subtracts, then scales once for each output."""
  total = op(x, w.leaf.signs().astype(x.dtype))
  return total * op.per_output(w.leaf.scale(), w.path, total.ndim)

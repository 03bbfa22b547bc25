"""Batches of any size: what takes them, and what is said where a model does not."""

import jax
import jax.numpy as jnp
import pytest

from compress_jax.export import inputs


@pytest.mark.parametrize("depends", [
    lambda spec: int(2 * spec.shape[0]), lambda spec: spec.shape[0] > 3,
    lambda spec: list(range(spec.shape[0]))])
def test_a_program_that_depends_on_the_batch_is_refused_in_words(depends):
  x = jnp.ones((4, 2))
  with pytest.raises(ValueError, match="batch='b': .*batches of any size .*; it must be None"):
    inputs.any_batch(depends, x, "b")
  inputs.any_batch(depends, x, None)


def test_what_fails_on_any_size_is_raised_as_it_is():
  def fails(spec):
    raise jax.errors.InconclusiveDimensionOperation("of the model's own")
  with pytest.raises(jax.errors.InconclusiveDimensionOperation, match="of the model's own"):
    inputs.any_batch(fails, jnp.ones((4, 2)), "b")

"""The zoo: parameter counts, shapes, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import models, pool


def count(name, shape, **arguments):
  model = models.create(name, num_classes=10, **arguments)
  init = lambda: model.init(jax.random.key(0), jnp.ones((1, *shape)), train=False)
  return sum(x.size for x in jax.tree.leaves(jax.eval_shape(init)["params"]))


def test_densenet_40_is_the_standard_one_with_its_norms_behind_the_convolutions():
  # Huang et al.: 1,019,722 with 18,096 norm parameters before the convolutions; here 1,824 behind.
  assert count("densenet", (32, 32, 3)) == 1_019_722 - 18_096 + 1_824


def test_convnet_has_three_convolutions_and_three_linear_layers():
  convolutions = 27 * 16 + 9 * 16 * 32 + 9 * 32 * 64 + 2 * (16 + 32 + 64)
  assert count("convnet", (32, 32, 3)) == convolutions + 1024 * 128 + 128 * 64 + 64 * 10 + 10


def test_vgg_16_is_the_usual_one_without_biases_in_front_of_norms():
  # Simonyan and Zisserman's configuration D on 32 x 32, with norms: 14,728,266.
  assert count("vgg", (32, 32, 3)) == 14_728_266 - 4_224


def test_the_evaluation_papers_models():
  assert count("cnn", (28, 28, 1)) == 20_410
  assert count("alexnet", (32, 32, 3)) == 58_322_314  # the paper: "over 58M"


@pytest.mark.parametrize("side", [4, 7])
def test_pools_are_those_of_windows(side):
  from flax import linen as nn
  x = jax.random.normal(jax.random.key(0), (2, side, side, 3))
  np.testing.assert_allclose(pool.avg_pool(x), nn.avg_pool(x, (2, 2), (2, 2)), rtol=1e-6)
  np.testing.assert_array_equal(pool.max_pool(x), nn.max_pool(x, (2, 2), (2, 2)))
  # No two of these pixels are equal, so there is one gradient.
  gradient = lambda f: jax.grad(lambda x: (f(x)**3).sum())(x)
  np.testing.assert_allclose(gradient(pool.max_pool),
                             gradient(lambda x: nn.max_pool(x, (2, 2), (2, 2))), rtol=1e-6)


@pytest.mark.parametrize("name,arguments,message", [
    ("resnet", {}, "model 'resnet': may be one of alexnet, cnn, convnet, densenet, vgg"),
    ("densenet", {"width": 3}, "argument 'width' may be one of.*depth")])
def test_bad_input_is_named(name, arguments, message):
  with pytest.raises(ValueError, match=message):
    models.create(name, num_classes=10, **arguments)

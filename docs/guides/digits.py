"""What the guides share: scikit-learn's digits, a small network, a training loop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn import datasets

import compress_jax as cj

_pixels, _digits = datasets.load_digits(return_X_y=True)
_images = jnp.asarray(_pixels.reshape(-1, 8, 8, 1) / 16, jnp.float32)
_labels = jnp.asarray(_digits)
_test = np.arange(len(_digits)) % 5 == 4   # every fifth image
train_images, train_labels = _images[~_test], _labels[~_test]
test_images, test_labels = _images[_test], _labels[_test]


def init(seed=0, width=16):
  """Returns the parameters of two convolutions and two linear layers."""
  shapes = {"conv1": (3, 3, 1, width), "conv2": (3, 3, width, 2 * width),
            "dense1": (32 * width, 4 * width), "dense2": (4 * width, 10)}
  keys = jax.random.split(jax.random.key(seed), len(shapes))
  he = jax.nn.initializers.he_normal()
  return {name: {"kernel": he(key, shape), "bias": jnp.zeros(shape[-1])}
          for key, (name, shape) in zip(keys, shapes.items(), strict=True)}


def apply(params, x):
  """Returns the logits of a batch of images."""
  for name, stride in (("conv1", 1), ("conv2", 2)):
    x = jax.lax.conv_general_dilated(x, params[name]["kernel"], (stride, stride), "SAME",
                                     dimension_numbers=("NHWC", "HWIO", "NHWC"))
    x = jax.nn.relu(x + params[name]["bias"])
  x = x.reshape(x.shape[0], -1)
  x = jax.nn.relu(x @ params["dense1"]["kernel"] + params["dense1"]["bias"])
  return x @ params["dense2"]["kernel"] + params["dense2"]["bias"]


def logits_of(params, x):
  """Returns the logits where the parameters hold compressed leaves."""
  return apply(cj.dense(params), x)


def train(params, *, steps=150, learning_rate=2e-3, batch=128, run=logits_of, loss=None):
  """Returns the parameters after training.

  Args:
    params: parameters, compressed or not.
    steps: how many, of Adam with a cosine schedule.
    learning_rate: at the first step.
    batch: images per step.
    run: (params, images) -> logits.
    loss: (logits, images, labels) -> scalar; cross-entropy by default.
  """
  loss = loss or (lambda logits, x, y: cj.distill.cross_entropy(logits, y))
  tx = cj.optimize(optax.adam(optax.cosine_decay_schedule(learning_rate, steps)))

  @jax.jit
  def step(params, state, key):
    rows = jax.random.randint(key, (batch,), 0, len(train_labels))
    x, y = train_images[rows], train_labels[rows]
    grads = jax.grad(lambda p: loss(run(p, x), x, y), allow_int=True)(params)
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state

  state = tx.init(params)
  for key in jax.random.split(jax.random.key(1), steps):
    params, state = step(params, state, key)
  return params


@functools.partial(jax.jit, static_argnames="run")
def accuracy(params, run=logits_of):
  """Returns the fraction of test images that are classified right."""
  return (run(params, test_images).argmax(-1) == test_labels).mean()

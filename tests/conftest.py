"""Fixtures that tests share, and one compilation cache for all their processes."""

import collections
import functools
import os
import shutil
import tempfile

# Before JAX is imported, here and in whatever the tests start: most time goes into compiling.
_CACHE = None
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
  _CACHE = os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="jax-cache-")
  os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
  os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

# Studies compute in float32 here, whatever the CPU: where nothing is set, `launch.py` would choose
# bfloat16 on some (`experiments/cpu.py`), in processes of its own but not in the tests'. LLVM's
# second level of optimization compiles in 15 % less time than the third, XLA's default; that bits
# depend on neither is tested in CI (`.ci/run`).
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=2")

# ruff: noqa: E402
import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx
from hypothesis import settings

# Compiling takes most of an example's time, and differs from run to run.
settings.register_profile("compiled", deadline=None, derandomize=True,
                          max_examples=20 if os.environ.get("ALL") else 4)
settings.load_profile("compiled")


# Whole studies and workflows take most of the time, nearly all of it compiling: the test command
# runs the combinations; CI (`ALL=1`) runs them all.
if not os.environ.get("ALL"):
  collect_ignore = [
      *(f"experiments/studies/test_{name}.py" for name in (
          "birds", "damage", "faults", "grid", "joint", "ray", "stopping", "suggest", "takeaways",
          "vgg16_cifar10", "workers")),
      "test_cli.py", "experiments/test_hosts.py",
      "experiments/training/test_devices.py", "experiments/training/test_joint_training.py",
      "lift/test_language_model.py", "lift/test_sharded.py", "models/test_workflows.py"]


def pytest_collection_modifyitems(config, items):
  """Without ALL, keeps every n-th case of the tests that are marked `sampled(n)`."""
  if os.environ.get("ALL"):
    return
  seen, kept, dropped = collections.Counter(), [], []
  for item in items:
    mark, name = item.get_closest_marker("sampled"), item.nodeid.partition("[")[0]
    keeps = mark is None or seen[name] % mark.args[0] == 0
    (kept if keeps else dropped).append(item)
    seen[name] += 1
  config.hook.pytest_deselected(items=dropped)
  items[:] = kept


def pytest_unconfigure():
  if _CACHE:
    shutil.rmtree(_CACHE, ignore_errors=True)


class LinenModel(nn.Module):
  """Two convolutions, one strided, and two linear layers."""

  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.Conv(6, (3, 3))(x))
    x = nn.relu(nn.Conv(8, (3, 3), strides=2, padding="VALID")(x))
    x = nn.relu(nn.Dense(12)(x.reshape(x.shape[0], -1)))
    return nn.Dense(10)(x)


class NnxModel(nnx.Module):
  """The same in NNX."""

  def __init__(self, rngs):
    self.conv0 = nnx.Conv(3, 6, (3, 3), rngs=rngs)
    self.conv1 = nnx.Conv(6, 8, (3, 3), strides=2, padding="VALID", rngs=rngs)
    self.dense0 = nnx.Linear(72, 12, rngs=rngs)
    self.dense1 = nnx.Linear(12, 10, rngs=rngs)

  def __call__(self, x):
    x = jax.nn.relu(self.conv1(jax.nn.relu(self.conv0(x))))
    return self.dense1(jax.nn.relu(self.dense0(x.reshape(x.shape[0], -1))))


# Cached, as pytest makes a fixture with parameters anew whenever these change.
@functools.cache
def _linen():
  model = LinenModel()
  return jax.jit(model.init)(jax.random.key(0), jnp.ones((1, 8, 8, 3))), model.apply


@functools.cache
def _nnx():
  graph, state = nnx.split(NnxModel(nnx.Rngs(0)))
  def apply(params, x):
    new = jax.tree.map(lambda v: v, state)
    nnx.replace_by_pure_dict(new, params)
    return nnx.merge(graph, new)(x)
  return nnx.to_pure_dict(state), apply


@functools.cache
def _function():
  keys = jax.random.split(jax.random.key(0), 2)
  params = {"conv": jax.random.normal(keys[0], (3, 3, 3, 4)) / 5, "bias": jnp.ones(4),
            "out": jax.random.normal(keys[1], (10, 256)) / 16}
  def apply(params, x):
    x = jax.lax.conv_general_dilated(x, params["conv"], (1, 1), "SAME",
                                     dimension_numbers=("NHWC", "HWIO", "NHWC"))
    x = jax.nn.relu(x + params["bias"]).reshape(x.shape[0], -1)
    return jnp.einsum("bi,oi->bo", x, params["out"])
  return params, apply


@pytest.fixture(scope="session", params=["linen", "nnx", "function"])
def model(request):
  """(params, apply, images) of each kind of model."""
  params, apply = {"linen": _linen, "nnx": _nnx, "function": _function}[request.param]()
  return params, apply, jax.random.normal(jax.random.key(1), (4, 8, 8, 3))


@pytest.fixture(scope="session")
def linen():
  """(params, apply, images) of the Linen model."""
  return (*_linen(), jax.random.normal(jax.random.key(1), (4, 8, 8, 3)))

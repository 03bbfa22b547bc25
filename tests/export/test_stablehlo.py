"""StableHLO: the program runs where this package is not, on any batch, to the same bits."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compress_jax as cj


def apply(p, x):
  x = jax.lax.conv_general_dilated(x, p["conv"], (2, 2), "SAME",
                                   dimension_numbers=("NHWC", "HWIO", "NHWC"))
  x = jax.nn.relu(x + p["bias"]).reshape(x.shape[0], -1)
  return jnp.tanh(jnp.tanh(x @ p["thin"]) @ p["blocks"]) @ p["few"]


def compressed(x):
  """Returns a deployed tree with one of most leaves."""
  draw = lambda seed, *shape: np.random.default_rng(seed).normal(size=shape).astype(np.float32)
  params = {"conv": jnp.asarray(draw(0, 3, 3, 3, 4)), "bias": jnp.ones(4),
            "thin": cj.LowRank(jnp.asarray(draw(1, 64, 3)), jnp.asarray(draw(2, 3, 8))),
            "blocks": cj.BlockSparse.from_dense(np.tril(draw(3, 8, 8)), (4, 4)),
            "few": cj.Clustered(jnp.asarray(draw(4, 6)), jnp.arange(40).reshape(8, 5) % 6)}
  params = cj.quantize.affine(params, 8, where="conv|thin")
  return cj.freeze(cj.quantize.calibrate(apply, params, [x]))


RUN = """
import sys
for name in ("compress_jax", "flax"):
  sys.modules[name] = None  # importing it fails
import jax.export, numpy as np
x, *paths = sys.argv[1:]
x = np.load(x)
for path in paths:
  program = jax.export.deserialize(bytearray(open(path, "rb").read()))
  for n in (len(x), 1):
    np.save(f"{path}.{n}.npy", program.call(x[:n]))
"""


def test_a_process_without_the_package_gives_the_same_bits_for_any_batch(tmp_path):
  x = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))
  np.save(tmp_path / "x.npy", x)
  params, path = compressed(x), tmp_path / "model"
  assert cj.export.stablehlo(path, apply, params, x) == path.stat().st_size
  subprocess.run([sys.executable, "-I", "-c", RUN, "x.npy", "model"], cwd=tmp_path, check=True)
  run = jax.jit(lambda x: cj.lift(apply)(params, x))
  for n in (len(x), 1):
    np.testing.assert_array_equal(np.load(f"{path}.{n}.npy"), run(x[:n]))


def test_integers_stay_integers_in_the_file(tmp_path):
  params = {"w": jax.random.normal(jax.random.key(0), (128, 128))}
  apply = lambda p, x: x @ p["w"]
  sizes = [cj.export.stablehlo(tmp_path / "file", apply, p, jnp.ones((1, 128)))
           for p in (params, cj.quantize.affine(params, 8))]
  assert sizes[1] < 0.35 * sizes[0]


def test_a_model_of_one_batch_size_says_so_and_is_exported_with_it(tmp_path):
  path, params, x = tmp_path / "file", {"w": jnp.eye(4)}, jnp.ones((2, 2, 2))
  apply = lambda p, x: x.reshape(len(x), -1) @ p["w"]
  with pytest.raises(ValueError, match="batch='b': the model does not take .* must be None"):
    cj.export.stablehlo(path, apply, params, x)
  assert not path.exists()
  cj.export.stablehlo(path, apply, params, jax.ShapeDtypeStruct(x.shape, x.dtype), batch=None)
  program = jax.export.deserialize(bytearray(path.read_bytes()))
  np.testing.assert_array_equal(program.call(x), apply(params, x))
  with pytest.raises(ValueError):
    program.call(x[:1])


def test_errors_name_the_argument_and_what_it_may_be(tmp_path):
  def export(x=None, **arguments):
    cj.export.stablehlo(tmp_path / "file", lambda p, x: x @ p["w"], {"w": jnp.eye(2)},
                        jnp.ones((1, 2)) if x is None else x, **arguments)

  with pytest.raises(ValueError, match=r"platforms=\('cpus',\): must be .*tpu"):
    export(platforms=("cpus",))
  with pytest.raises(ValueError, match="platforms='cpu': must be a sequence"):
    export(platforms="cpu")
  with pytest.raises(ValueError, match="batch=3: must be a name"):
    export(batch=3)
  with pytest.raises(ValueError, match="x: a list; it must be one array"):
    export([1.0])
  with pytest.raises(ValueError, match="x has no axis"):
    export(jnp.ones(()))
  with pytest.raises(TypeError, match="dot_general"):  # the model's own
    export(jnp.ones((1, 3)))


def test_a_program_for_two_platforms(tmp_path):
  cj.export.stablehlo(tmp_path / "file", lambda p, x: x @ p["w"], {"w": jnp.eye(2)},
                      jnp.ones((1, 2)), platforms=("cpu", "tpu"))
  program = jax.export.deserialize(bytearray((tmp_path / "file").read_bytes()))
  assert program.platforms == ("cpu", "tpu")

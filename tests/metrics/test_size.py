"""Sizes by each convention, by hand."""

import gzip

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compress_jax as cj


def test_conventions_by_hand():
  w = jnp.asarray(np.random.default_rng(0).normal(size=(32, 16)), jnp.float32)
  params = {"w": w, "b": jnp.zeros(16)}
  size = cj.size(params)
  assert (size.dense, size.nonzero, size.packed) == (528 * 4, 512 * 4, 528 * 4)
  pruned = cj.prune.magnitude(params, 0.75)
  size = cj.size(pruned)
  assert (size.dense, size.nonzero) == (528 * 4, 128 * 4)
  assert size.packed == 128 * 4 + 512 // 8 + 16 * 4
  quantized = cj.quantize.affine(pruned, 8)
  nonzero = int(np.count_nonzero(cj.dense(quantized)["w"]))
  assert cj.size(quantized).nonzero == nonzero + 16 * 4
  assert cj.size(quantized).packed == 512 + 16 * 4 + 16 * 4


@pytest.mark.parametrize("bits", [2, 3, 4, 8, 12])
def test_integers_are_counted_by_their_bits(bits):
  params = {"w": jnp.asarray(np.random.default_rng(0).normal(size=(40, 8)), jnp.float32)}
  asymmetric = cj.quantize.affine(params, bits, symmetric=False)
  assert cj.size(asymmetric).packed == 40 * 8 * bits // 8 + 8 * (4 + 4)
  nonzero = int(np.count_nonzero(cj.dense(asymmetric)["w"]))
  zero_points = int(np.count_nonzero(asymmetric["w"].zero_point))
  assert cj.size(asymmetric).nonzero == -(-(nonzero * bits + 32 * 8 + 32 * zero_points) // 8)


def test_the_artifact_is_as_large_as_its_file(tmp_path):
  params = cj.quantize.affine({"w": jnp.eye(16)}, 4)
  assert cj.artifact.save(tmp_path / "m", params) == cj.size(params).artifact
  assert (tmp_path / "m").stat().st_size == cj.size(params).artifact


def test_count_follows_the_factors():
  params = cj.factorize.svd({"w": jnp.eye(8), "b": jnp.ones(8)}, rank=2)
  assert cj.count(params)[0] == 8 * 2 * 2 + 8


def test_small_arrays_are_compressed_together_everywhere(tmp_path):
  params = {f"layer{i}": {"bias": jnp.full((8,), float(i))} for i in range(40)}
  cj.artifact.save(tmp_path / "model.cjx", params)
  found = cj.inspect.read(tmp_path / "model.cjx").totals
  assert found["gzip_bytes"] == cj.size(params).gzip


@pytest.mark.parametrize("dtype,bits", [("int4", 4), ("float4_e2m1fn", 4), ("float8_e4m3fn", 8),
                                        ("bfloat16", 16), ("complex64", 64)])
def test_elements_take_the_bits_of_their_dtype(dtype, bits):
  assert cj.size({"w": jnp.zeros(1000, dtype)}).dense == 125 * bits


def test_parameters_are_counted_alike():
  params = {"w": jnp.eye(2), "key": jax.random.key(0), "step": jnp.int32(3), "n": 7}
  assert cj.count(params) == (4, 2)
  summary = cj.summary(params)
  assert (summary.params, summary.nonzero) == (4, 2)


@pytest.mark.parametrize("inputs", [(jnp.ones((5, 2)), jnp.ones((5, 2))), {"x": jnp.ones((5, 2))}])
def test_inputs_that_are_no_array_are_not_timed(inputs):
  with pytest.raises(ValueError, match="inputs: a (tuple|dict); must be an array"):
    cj.metrics.latency(lambda p, x: x, jnp.eye(2), inputs, calls=1)


@pytest.mark.parametrize("kind", ["dense", "masked", "quantized", "blocks"])
def test_gzip_is_pythons_of_the_arrays_with_zeros_in_place(kind):
  w = np.random.default_rng(0).normal(size=(64, 48)).astype(np.float32)
  params = {"bias": jnp.arange(48.0), "w": jnp.asarray(w)}  # in tree order
  if kind != "dense":
    prune = cj.prune.block if kind == "blocks" else cj.prune.magnitude
    params = prune(params, 0.75, **({"block": (16, 16)} if kind == "blocks" else {}))
  if kind == "quantized":
    params = cj.quantize.affine(params, 8)
  frozen = cj.freeze(params)["w"]
  stored = {"dense": lambda: [w], "masked": lambda: [frozen.dense()],
            "quantized": lambda: [frozen.integers, frozen.scale],
            "blocks": lambda: [frozen.blocks]}[kind]()
  raw = b"".join(np.asarray(x).tobytes() for x in (params["bias"], *stored))
  assert cj.size(params).gzip == len(gzip.compress(raw, 9))

"""Observers against numpy: percentiles, brute force, the recursion of a moving average."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import compress_jax as cj
from compress_jax.leaves import grid
from compress_jax.quantize import observers


def seen(batches, bins=2048):
  each = [observers.see(jnp.asarray(b), bins) for b in batches]
  return observers.Seen(*(jnp.concatenate([getattr(e, k) for e in each])
                          for k in ("low", "high", "counts")))


@given(st.integers(0, 50), st.sampled_from([51.0, 90.0, 99.0, 99.9]))
def test_percentile_is_numpys_within_a_bin(seed, percent):
  batches = np.random.default_rng(seed).normal(size=(3, 500)).astype(np.float32)
  batches[1] *= 3
  bin_width = max(np.ptp(b) for b in batches) / 2048
  low, high = observers.Percentile(percent)(seen(batches), 8, False)
  kind = {"method": "inverted_cdf"}
  assert abs(float(high) - np.percentile(batches, percent, **kind)) <= bin_width
  gap = np.abs(np.sort(batches.ravel()) - float(low)).min()
  assert gap <= bin_width
  assert abs((batches <= float(low)).mean() - (1 - percent / 100)) < 0.005
  low, high = observers.Percentile(percent)(seen(batches), 8, True)
  assert -float(low) == float(high)
  assert abs(float(high) - np.percentile(np.abs(batches), percent, **kind)) <= 2 * bin_width


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_mean_squared_error_is_the_best_of_a_brute_force(bits, symmetric):
  x = np.random.default_rng(bits).laplace(size=2000).astype(np.float32)

  def error(fraction):
    scale, zero = grid.affine(jnp.float32(fraction * x.min()), jnp.float32(fraction * x.max()),
                              bits, symmetric)
    rounded = grid.quantize_to_grid(jnp.asarray(x), scale, zero, bits) * scale
    return float(((x - np.asarray(rounded))**2).sum())

  _, high = observers.MeanSquaredError()(seen([x]), bits, symmetric)
  best = min(error(f) for f in np.arange(1, 101) / 100)
  assert error(float(high) / x.max()) <= best * 1.01
  assert error(float(high) / x.max()) <= error(1.0) * 1.01


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=6), st.sampled_from([0.0, 0.5, 0.9]))
def test_moving_average_is_its_recursion(tops, decay):
  batches = [np.array([t - 1, t], np.float32) for t in tops]
  low, high = observers.MovingAverage(decay)(seen(batches, 0), 8, False)
  expected = tops[0]
  for t in tops[1:]:
    expected = decay * expected + (1 - decay) * t
  assert float(high) == pytest.approx(expected, abs=1e-5)
  assert float(low) == pytest.approx(expected - 1, abs=1e-5)


def test_outliers_widen_min_max_but_not_the_others():
  x = jnp.concatenate([jnp.linspace(0, 1, 10_000), jnp.array([100.0])])[None]
  p = cj.quantize.affine({"w": jnp.ones((x.size, 2))}, 8)
  apply = lambda p, x: x @ p["w"]
  scale = lambda o: float(cj.quantize.calibrate(apply, p, [x], observer=o)["w"].input.scale)
  assert scale(observers.MinMax()) == pytest.approx(100 / 255, rel=1e-3)
  assert scale(observers.Percentile(99.9)) == pytest.approx(1 / 255, abs=0.1 / 255)


@pytest.mark.parametrize("make,message", [
    (lambda: observers.Percentile(50), "percent=50: must be above 50, up to 100"),
    (lambda: observers.MovingAverage(1.0), "decay=1.0: must be from 0"),
])
def test_bad_input_names_the_argument(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_percentiles_of_more_values_than_an_int32_counts():
  few = seen([np.random.default_rng(0).normal(size=2**16).astype(np.float32)])
  # The same batch four times, with 2**30 values in each.
  many = observers.Seen(jnp.tile(few.low, 4), jnp.tile(few.high, 4),
                        jnp.tile(few.counts * 2**14, (4, 1)))
  percentile = observers.Percentile(99.9)
  np.testing.assert_allclose(percentile(many, 8, False), percentile(few, 8, False), rtol=1e-5)


@pytest.mark.parametrize("make", [lambda: observers.MeanSquaredError(bins=0),
                                  lambda: observers.MeanSquaredError(fractions=0),
                                  lambda: observers.Percentile(bins=0)])
def test_nothing_to_search_is_refused(make):
  with pytest.raises(ValueError, match="(bins|fractions)=0: must be a whole number from 1"):
    make()


def test_what_cannot_calibrate_is_named():
  params = cj.quantize.affine({"w": jnp.eye(2)}, 8)
  apply = lambda p, x: x @ p["w"]
  with pytest.raises(ValueError, match="batches: one is empty"):
    cj.quantize.calibrate(apply, params, [jnp.ones((1, 2)), jnp.ones((0, 2))])
  with pytest.raises(ValueError, match=r"observer=MovingAverage: a class; must be .*Average\(\)"):
    cj.quantize.calibrate(apply, params, [jnp.ones((1, 2))], observer=observers.MovingAverage)

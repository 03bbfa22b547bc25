"""Windows: what their taps meet is what `lax` calls patches."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

from compress_jax.kernels.windows import Window

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@given(sizes=pairs, strides=pairs, dilation=pairs)
def test_taps_meet_the_patches_of_lax(sizes, strides, dilation):
  x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 7, 9, 3)), jnp.float32)
  window = Window(sizes, strides, dilation)
  taps = jnp.stack([window.slice(x, tap, 1, 2) for tap in window], -1)
  patches = lax.conv_general_dilated_patches(
      x[..., 1:], sizes, strides, "VALID", rhs_dilation=dilation,
      dimension_numbers=("NHWC", "HWIO", "NHWC"))
  np.testing.assert_array_equal(taps.reshape(patches.shape), patches)
  assert list(patches.shape[1:-1]) == window.positions(x.shape)

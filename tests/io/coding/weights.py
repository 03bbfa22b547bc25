"""Weights as quantizers and pruners leave them, for tests of sizes."""

import numpy as np


def quantized(seed, shape, bits, sparsity, laplace=False):
  """Returns int8 codes of weights that are alike everywhere, the smallest ones pruned."""
  rng = np.random.default_rng(seed)
  w = rng.laplace(size=shape) if laplace else rng.normal(size=shape)
  kept = np.abs(w) >= np.quantile(np.abs(w), sparsity)
  top = 2**(bits - 1) - 1
  # As `quantize.affine` by the largest weight; 2 bits saturate, or all would be zero.
  step = np.abs(w).max() / top if bits > 2 else 0.8
  codes = np.clip(np.rint(w / step), -top, top)
  if sparsity:  # as learned grids do, what is kept stays off zero
    codes = np.where(codes == 0, np.sign(w), codes)
  return np.where(kept, codes, 0).astype(np.int8)

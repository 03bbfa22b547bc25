"""How large coded weights are beside other compressors, and how long decoding takes.

python -m benchmarks.bench_artifact [--size=1024] [--weights=laplace,gauss,digits]
    [--seconds] [--ablation]

Every compressor gets the same codes, the general ones in the better of two forms: one
byte per value, or packed bits. The bound is the order-0 entropy of the values that
are not zero plus that of which are. `nncodec` takes part where it can be imported.
"""

from __future__ import annotations

import functools
import lzma
import math
import os
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import zstandard
from absl import app, flags
from sklearn import datasets

import compress_jax as cj
from compress_jax.io import coding
from compress_jax.io.coding import contexts, masks
from experiments.reporting import paper_tables

try:
  from nncodec import nnc
except ImportError:
  nnc = None

_SIZE = flags.DEFINE_integer("size", 1024, "Rows and columns of the drawn weights.")
_WEIGHTS = flags.DEFINE_list("weights", ["laplace", "gauss", "digits"], "Which weights.")
_SECONDS = flags.DEFINE_boolean("seconds", True, "Whether to time 1 M and 60 M parameters.")
_ABLATION = flags.DEFINE_boolean("ablation", True, "Whether to measure without contexts.")

BITS, SPARSITIES = (8, 4, 2), (0.0, 0.9, 0.95, 0.99)
GENERAL = {
    "gzip -9": lambda data: zlib.compress(data, 9, wbits=31),
    "zstd -19": zstandard.ZstdCompressor(level=19).compress,
    "xz -9e": lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
}


def main(_: Sequence[str]) -> None:
  """Prints what the flags ask for."""
  for name in _WEIGHTS.value:
    table(name, WEIGHTS[name]())
  if _ABLATION.value:
    ablation(drawn("laplace"))
  if _SECONDS.value:
    for layers in (1, 60):
      seconds(layers)


def table(name: str, weights: Sequence[np.ndarray]) -> None:
  """Prints the bytes of every compressor, for matrices of weights together.

  Args:
    name: of the weights.
    weights: matrices, inputs first.
  """
  print(f"\n{name}, {sum(w.size for w in weights)} weights\n")
  print(paper_tables.head(["bits", "zeros", *measures(8), "ours to bound"]))
  for bits in BITS:
    for sparsity in SPARSITIES:
      codes = [quantized(w, bits, sparsity) for w in weights]
      sizes = [round(sum(map(measure, codes))) for measure in measures(bits).values()]
      zeros = 1 - sum(map(np.count_nonzero, codes)) / sum(x.size for x in codes)
      bound, ours = sizes[:2]
      print(paper_tables.line([str(bits), f"{zeros:.0%}", *map(str, sizes),
                               f"{ours / bound - 1:+.1%}"]), flush=True)


def measures(bits: int) -> dict[str, Callable[[np.ndarray], float]]:
  """Returns the functions that give an array's bytes by compressor, the bound and ours first.

  Args:
    bits: of the arrays' codes.
  """
  found = {"bound": coding.order0_bytes, "ours": lambda x: len(coded(x))}
  for name, compress in GENERAL.items():
    found[name] = functools.partial(_better_form, compress, bits)
  if nnc is not None:
    found["nncodec"] = nncodec
  return found


def _better_form(compress: Callable[[bytes], bytes], bits: int, x: np.ndarray) -> int:
  """Returns the bytes of a general compressor: of one byte per value, or of packed bits."""
  return min(len(compress(x.tobytes())), len(compress(packed(x, bits))))


def coded(x: np.ndarray) -> bytes:
  """Returns our bytes, checked to decode to the same.

  Args:
    x: int8 codes.
  """
  data = coding.encode(x)
  np.testing.assert_array_equal(coding.decode(data, x.shape, x.dtype.name), x)
  return data


def packed(x: np.ndarray, bits: int) -> bytes:
  """Returns signed codes in so many bits each, the highest first.

  Args:
    x: int8 codes.
    bits: of each.
  """
  planes = (x.astype(np.int64).reshape(-1, 1) >> np.arange(bits - 1, -1, -1)) & 1
  return np.packbits(planes.astype(np.uint8)).tobytes()


def nncodec(x: np.ndarray) -> int:
  """Returns the bytes of an MPEG NNC stream of the same integers, checked to decode to them.

  Args:
    x: int8 codes.
  """
  sizes = []
  # The better of both: rows of zeros may be skipped, or not.
  for skipping in (False, True):
    data = nnc.compress({"w": x.astype(np.int32)}, bitstream_path=os.devnull, return_bitstream=True,
                        row_skipping=skipping)
    np.testing.assert_array_equal(nnc.decompress(bytearray(data))["w"], x)
    sizes.append(len(data))
  return min(sizes)


def quantized(w: np.ndarray, bits: int, sparsity: float) -> np.ndarray:
  """Quantizes a matrix by output channel, after pruning its smallest weights.

  Args:
    w: (inputs, outputs).
    bits: of the codes, 2 to 8.
    sparsity: fraction that is pruned, 0 to below 1.

  Returns:
    int8 codes, of the same shape.
  """
  kept = np.abs(w) >= np.quantile(np.abs(w), sparsity)
  top, size = 2**(bits - 1) - 1, np.abs(w) * kept
  mean = size.sum(0) / np.maximum(kept.sum(0), 1)
  # Ternary grids at about what halves the error; the others reach the largest weight.
  step = np.maximum(size.max(0) / top if bits > 2 else mean, 1e-9)
  codes = np.clip(np.rint(w / step), -top, top)
  if sparsity:
    # What is kept is not zero, so that the table's sparsities are what they say.
    codes = np.where(codes == 0, np.sign(w), codes)
  return np.where(kept, codes, 0).astype(np.int8)


def drawn(kind: str) -> list[np.ndarray]:
  """Returns one matrix, its output channels' scales log-normal as trained layers' are.

  Args:
    kind: "laplace" or "gauss", the distribution within a channel.
  """
  rng = np.random.default_rng(0)
  draw = rng.laplace if kind == "laplace" else rng.normal
  scales = rng.lognormal(0, 0.3, _SIZE.value)
  return [draw(size=(_SIZE.value, _SIZE.value)) * scales]


def digits() -> list[np.ndarray]:
  """Returns the matrices of a 64-512-256-10 perceptron trained on scikit-learn's digits."""
  x, y = datasets.load_digits(return_X_y=True)
  x, y, keys = jnp.asarray(x / 16), jnp.asarray(y), jax.random.split(jax.random.key(0), 3)
  params = []
  for key, shape in zip(keys, ((64, 512), (512, 256), (256, 10)), strict=True):
    params.append(jax.random.normal(key, shape) * math.sqrt(2 / shape[0]))

  def loss(p: Sequence[jax.Array]) -> jax.Array:
    out = jax.nn.relu(jax.nn.relu(x @ p[0]) @ p[1]) @ p[2]
    return optax.softmax_cross_entropy_with_integer_labels(out, y).mean()

  optimizer = optax.adamw(1e-3, weight_decay=1e-2)
  state = optimizer.init(params)

  @jax.jit
  def step(p: Any, s: Any) -> tuple[Any, Any]:
    updates, s = optimizer.update(jax.grad(loss)(p), s, p)
    return optax.apply_updates(p, updates), s

  for _ in range(300):
    params, state = step(params, state)
  return [np.asarray(w) for w in params]


WEIGHTS = {"laplace": functools.partial(drawn, "laplace"),
           "gauss": functools.partial(drawn, "gauss"), "digits": digits}


def ablation(weights: Sequence[np.ndarray]) -> None:
  """Prints what each kind of context saves, over one table and one bit for zeros.

  Args:
    weights: the first of these matrices is coded.
  """
  print("\n" + paper_tables.head(["weights", "bound", "plain", "channels", "all"]))
  for name, codes in _patterns(weights[0]).items():
    sizes = [len(coding.encode(codes)) for _ in without()]
    print(paper_tables.line([name, f"{coding.order0_bytes(codes):.0f}", *map(str, sizes)]))


def _patterns(w: np.ndarray) -> dict[str, np.ndarray]:
  """Returns 4-bit codes of a matrix, with zeros in several patterns."""
  rng, n = np.random.default_rng(0), len(w)
  x = quantized(w, 4, 0.0)
  blocks = np.kron(rng.random((n // 16, n // 16)) > 0.9, np.ones((16, 16), bool))
  two_four = rng.random((n // 4, 4, n)).argsort(1).reshape(n, n) < 2
  kernels = np.broadcast_to(rng.random((n // 8, n // 8)) < 0.3, (3, 3, n // 8, n // 8))
  some = x.ravel()[:kernels.size].reshape(kernels.shape)
  return {"90 % zeros": quantized(w, 4, 0.9), "blocks of 16, 90 %": x * blocks,
          # Exactly two of four are zero: what is kept must not be.
          "2:4": np.where(two_four, np.where(x, x, 1), 0),
          "filters, 50 %": x * (rng.random(n) > 0.5), "kernels 3x3, 70 %": some * kernels}


def without() -> Iterator[None]:
  """Switches contexts on one by one: none, classes of channels, blocks and groups too."""
  # Private: a user has no reason to code worse, so there is no option to switch them off.
  kept = contexts._options, masks._grouped, masks._blocked
  try:
    masks._grouped = masks._blocked = contexts._options = _none
    yield
    contexts._options = kept[0]
    yield
    masks._grouped, masks._blocked = kept[1:]
    yield
  finally:
    contexts._options, masks._grouped, masks._blocked = kept


def _none(*_: Any) -> list[Any]:
  return []


def seconds(layers: int) -> None:
  """Prints how long a model takes to encode and to decode, by kind of weights.

  Args:
    layers: of 1,048,576 parameters each.
  """
  rng = np.random.default_rng(1)
  w = rng.laplace(size=(1024, 1024)).astype(np.float32)
  for name, bits, sparsity in (("int8", 8, 0.0), ("int4, 90 % zeros", 4, 0.9), ("float32", 32, 0)):
    part = w if bits == 32 else quantized(w, bits, sparsity)
    # Rolled, so that no two layers are the same array.
    params = {f"layer{i:02}": np.roll(part, i, 0) for i in range(layers)}
    start = time.perf_counter()
    data = cj.artifact.encode(params)
    middle = time.perf_counter()
    cj.artifact.decode(data)
    end = time.perf_counter()
    print(f"{layers * w.size / 1e6:.0f} M, {name}: encoded in {middle - start:.1f} s, decoded in "
          f"{end - middle:.2f} s, {len(data)} bytes", flush=True)


if __name__ == "__main__":
  app.run(main)

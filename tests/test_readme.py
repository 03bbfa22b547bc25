"""The README's Python runs, and its first two shell blocks are one command each."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp

import compress_jax as cj

TEXT = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_python_block_runs(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  x = jax.random.normal(jax.random.key(0), (8, 6))
  names = {"params": {"w": jax.random.normal(jax.random.key(1), (6, 4)), "b": jnp.zeros(4)},
           "apply": lambda params, x: x @ params["w"] + params["b"], "x": x, "batches": [x],
           "labels": jnp.arange(8) % 4, "teacher_logits": jnp.ones((8, 4))}
  exec(re.search(r"```python\n(.*?)```", TEXT, re.S)[1], names)
  assert isinstance(names["deployed"]["w"], cj.Quantized)
  assert jnp.isfinite(names["loss"](names["trainable"]))
  fake = cj.lift(names["apply"])(names["params"], x)
  assert (names["logits"] == fake).all()
  assert (tmp_path / "model.cjx").stat().st_size == cj.size(names["deployed"]).artifact


def test_the_first_two_shell_blocks_are_one_line_each():
  blocks = re.findall(r"```sh\n(.*?)```", TEXT, re.S)
  assert all(block.count("\n") == 1 for block in blocks[:2])
  assert "launch.py --config=configs/combo.py" in blocks[0] and "pytest" in blocks[1]

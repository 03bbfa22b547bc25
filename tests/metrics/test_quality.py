"""The quality metric against the paper's own tables."""

import json
from pathlib import Path

import numpy as np
import pytest

import compress_jax as cj

ROOT = Path(__file__).parents[2]
PAPER = json.loads((ROOT / "experiments/studies/grid/paper.json").read_text())


@pytest.mark.parametrize("model,table", [("cnn", "table_1"), ("alexnet", "table_2")])
def test_table_3_follows_from_tables_1_and_2(model, table):
  for row, expected in zip(PAPER[table][1:], PAPER["table_3"][1:], strict=True):
    assert (row["sparsity"], row["bits"]) == (expected["sparsity"], expected["bits"])
    # The printed factors are rounded; their tables' bytes give them in full.
    reduction = PAPER[table][0]["bytes"] / row["bytes"]
    assert reduction == pytest.approx(row["reduction"], abs=0.02)
    q = cj.metrics.quality(row["sparsity"], row["bits"], row["delta_accuracy"], reduction)
    assert round(float(q), 4) == expected[model], row


def test_arrays_give_arrays():
  rows = PAPER["table_1"][1:]
  columns = [np.array([r[k] for r in rows])
             for k in ("sparsity", "bits", "delta_accuracy", "reduction")]
  assert cj.metrics.quality(*columns).shape == (17,)


@pytest.mark.parametrize("arguments,message", [((1.5, 8, 0, 1), "sparsity=1.5"),
                                               ((0.5, 0, 0, 1), "bits=0"),
                                               ((0.5, 8, 0, -1), "reduction=-1")])
def test_bad_input_names_the_argument(arguments, message):
  with pytest.raises(ValueError, match=message):
    cj.metrics.quality(*arguments)

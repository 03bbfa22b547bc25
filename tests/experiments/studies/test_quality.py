"""The quality metric where it was, and where the paper's does not reach."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import compress_jax as cj
from experiments.studies.combo import quality

BASE = {"test_accuracy": 0.9, "params": 1000, "nonzero_params": 1000, "nonzero_bytes": 4000,
        "gzip_bytes": 3600}


def row(**changes):
  return {"combo": "imp", "seed": 0, "val_accuracy": 0.9, **BASE, **changes}


@given(st.floats(0.0, 0.99), st.sampled_from([8, 16, 32]), st.floats(-5, 5))
def test_pruned_and_quantized_models_have_the_papers_metric(sparsity, bits, delta):
  left = round(1000 * (1 - sparsity))
  found = quality.columns(row(nonzero_params=left, nonzero_bytes=left * bits // 8,
                              gzip_bytes=600, test_accuracy=0.9 + delta / 100), BASE)
  expected = cj.metrics.quality(1 - left / 1000, bits, delta, 6.0)
  assert found["quality"] == pytest.approx(float(expected), rel=1e-4, abs=1e-6)


def test_a_student_and_factors_count_by_what_is_gone():
  student = quality.columns(row(params=100, nonzero_params=100, nonzero_bytes=400,
                                gzip_bytes=360, test_accuracy=0.91), BASE)
  assert student["gone"] == pytest.approx(0.9) and student["bits"] == 32
  assert student["quality"] > 0
  # A factorization that has more parameters takes nothing away.
  assert quality.columns(row(nonzero_params=1100, nonzero_bytes=4400), BASE)["gone"] == 0


def test_the_table_has_the_best_first():
  rows = [{**row(combo=name, **changes), **quality.columns(row(**changes), BASE)}
          for name, changes in (("base", {}), ("worse", {"test_accuracy": 0.8}),
                                ("better", {"test_accuracy": 0.95}))]
  text = quality.text(rows)
  assert text.index("| better |") < text.index("| worse |") and "| base |" not in text

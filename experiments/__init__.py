"""Studies on top of compress_jax: data, models, training, reports."""

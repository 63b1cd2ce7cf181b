"""Settings that hold for every test, made without importing what a test may not use."""

import os
import sys

import hypothesis

os.environ["MPLBACKEND"] = "agg"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"  # read when jax is imported: a silent broadcast is an error
if "jax" in sys.modules:
    sys.modules["jax"].config.update("jax_numpy_rank_promotion", "raise")

# Compilation makes the first example slow, so no deadline; the same examples on every machine.
hypothesis.settings.register_profile("house", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("house")

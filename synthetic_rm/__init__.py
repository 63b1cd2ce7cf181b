"""Reward model overoptimization, from human ratings to scaling laws, in JAX."""

__version__ = "0.1.0"

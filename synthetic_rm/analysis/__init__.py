"""Curves, fits, tables and figures from what a run leaves: numpy, scipy, pandas and matplotlib only."""

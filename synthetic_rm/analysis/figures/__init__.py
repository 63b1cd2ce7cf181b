"""Figures, each one function from tables to a matplotlib `Figure`."""

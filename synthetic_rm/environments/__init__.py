"""Environments: where prompts and demonstrations come from, and who prefers what."""

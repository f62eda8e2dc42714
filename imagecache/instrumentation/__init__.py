"""Figures of a manager for monitoring systems: one file each, with a dependency of its own that is asked for here."""

"""Readers of other people's benchmarks: a file in their format becomes a list of tasks."""

"""Agents that log what they do, each runnable on one machine; see README.md."""

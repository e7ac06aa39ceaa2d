"""Pairs of a better and a worse answer, from what really happened."""

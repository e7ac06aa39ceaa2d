"""Measurements of the figures we promise: each prints its bars and exits 1 when one is missed."""

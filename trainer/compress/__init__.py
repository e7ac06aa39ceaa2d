"""Smaller versions of a version: fewer bits per weight (quantize), fewer weights (prune).

Each makes a whole model in a folder that plain transformers, and our engine, load again; its size,
its speed and its distance from what it was made of are measured on what was loaded from the disk.
"""

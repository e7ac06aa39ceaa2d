"""Run a base model with hot-swapped adapters. Makes text.

Front desk: `serving.backends` (an OpenAI-compatible server of ours or another engine's, no torch).
"""

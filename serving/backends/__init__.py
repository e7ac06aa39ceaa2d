"""Doors to the servers that run our models: the embedded engine, vLLM. No torch."""

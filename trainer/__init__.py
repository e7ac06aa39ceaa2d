"""Learn it: recipes, LoRA training, the model registry. Makes TrainingRun and ModelVersion.

Front desk: `trainer.registry` (no torch, so that the web process may import it).
"""

"""The causal proof of the product: a tiny world in which one turn of the wheel can be measured."""

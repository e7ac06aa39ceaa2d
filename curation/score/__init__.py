"""How good an example is: every signal, its parts, one calibrated score, and a verdict."""

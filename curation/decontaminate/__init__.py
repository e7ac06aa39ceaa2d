"""Front desk: what no dataset may teach, and the search for it."""

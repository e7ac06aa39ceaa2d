"""The product: assembles every room. `flywheel.cycle` knows the order of a turn."""

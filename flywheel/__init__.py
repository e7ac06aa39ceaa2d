"""The product: assembles every room. `flywheel.cycle` is the one page that knows the order of a turn."""

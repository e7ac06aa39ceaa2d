"""Which of the kept examples go into a version, and what is mixed in."""

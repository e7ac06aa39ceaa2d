"""How tests of each family are judged: what its rules mean, planted faults, and good tests."""

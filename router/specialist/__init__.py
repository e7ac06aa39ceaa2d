"""Which model suits a task: rules, or a small classifier learned from outcomes."""

"""What people look at and say: the queue, leases, labels, agreement."""

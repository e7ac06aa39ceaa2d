"""Which examples repeat which: MinHash candidates, exact verification, star clusters, evidence."""

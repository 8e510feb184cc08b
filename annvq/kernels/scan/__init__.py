"""Search of one segment: lists are chosen, their codes scanned into pools, and the best rescored."""

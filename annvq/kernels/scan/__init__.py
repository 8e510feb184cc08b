"""Search of one segment: lists are chosen, their codes are scanned into pools, and the best candidates are rescored."""

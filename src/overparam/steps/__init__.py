"""Step sizes: the largest stable one by width, and whether one carries over to another width."""

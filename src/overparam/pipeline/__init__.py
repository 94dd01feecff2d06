"""The jobs, from data to findings: a network drawn anew or trained elsewhere, and certificates."""

"""The empirical evidence: seeded, resumable sweeps with a verdict, a table and a figure each."""

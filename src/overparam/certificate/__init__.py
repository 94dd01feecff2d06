"""What is certified: hypotheses measured at given parameters, put into the theorems."""

"""Class-wise fairness of robust training: each method as a small state, by published rules."""

"""Three ways to fill φ in, and the baselines: the estimators."""

"""What the lecture shows, by numbers: Jensen's inequality, estimators of a gradient, one update traced."""

"""How φ is found and θ is fitted: closed forms, EM, E-steps, expectations."""

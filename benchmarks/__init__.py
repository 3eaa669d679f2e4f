"""How fast the package is beside its peers, as ratios within one run, results compared first."""

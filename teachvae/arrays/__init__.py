"""NumPy or CuPy, trees of arrays, rows in blocks, and nothing that is the lecture's."""

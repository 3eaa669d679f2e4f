"""The exercises of the course, a file a notebook: what is drawn, what is right, which mistakes are named."""

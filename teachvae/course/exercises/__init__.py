"""The exercises of the course, a file a notebook: what is drawn, what is right, and what is often handed in instead."""

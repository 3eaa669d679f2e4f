"""Around the course: starting it, counting what is done, planting faults, judging a folder of notebooks."""

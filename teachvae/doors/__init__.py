"""From a table to what the model sees, and back."""

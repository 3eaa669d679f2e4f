"""What a model is worth, and what each inequality costs, per data case and with stated errors."""

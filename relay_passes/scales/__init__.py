"""What chooses scales, and what bounds them."""

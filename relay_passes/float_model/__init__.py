"""What changes the float graph."""

"""What rounds weights and corrects biases."""

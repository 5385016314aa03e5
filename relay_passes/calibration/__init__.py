"""What looks at data: profiles, observers, moments, errors by layer."""

"""What was computed before, kept on disk by what it depends on."""

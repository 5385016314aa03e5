"""What a run works on: models, images and labels, bundled, downloaded or a user's own."""

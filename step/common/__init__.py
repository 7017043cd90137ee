"""What the steps and their runner share."""

"""Free audio to train on."""

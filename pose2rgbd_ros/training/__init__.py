"""Losses, the trainer and the checkpoint format."""

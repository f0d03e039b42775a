"""Seeded sensor models with the faults of real hardware; the truth is kept beside every measurement."""

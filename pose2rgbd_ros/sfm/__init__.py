"""Structure from motion: poses, lens and sparse points from the pictures, tied to the Earth by rough positions."""

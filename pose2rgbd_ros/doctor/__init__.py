"""What a recording is, what is wrong with it and what will come of it, before it is converted."""

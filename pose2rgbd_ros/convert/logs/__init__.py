"""Flight logs: their files, and the poses along them."""

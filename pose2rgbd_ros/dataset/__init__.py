"""RGB, depth and poses on disk: writer, reader, cache, splits."""

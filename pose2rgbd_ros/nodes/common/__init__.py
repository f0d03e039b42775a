"""What all nodes share: parameters, conversions, status, topics, workers."""

"""What a model that shows poses is good for beside a node: virtual routes, more frames, a place without its traffic."""

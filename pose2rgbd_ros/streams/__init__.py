"""Time-stamped samples and transforms, in SI units and ENU."""

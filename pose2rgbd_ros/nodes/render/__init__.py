"""The current TF pose -> RGB and depth images."""

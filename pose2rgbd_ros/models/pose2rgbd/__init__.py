"""The paper's networks, Base and Slice: pose -> RGB + depth."""

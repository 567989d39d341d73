"""The page of `preimage explore`: components and wires over `preimage.explorer`, on this machine alone."""

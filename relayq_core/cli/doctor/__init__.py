"""`relayq doctor`: read the facts of a deployed stack, and check them."""

"""`relayq doctor`: what a deployed stack is like, and what of that is wrong."""

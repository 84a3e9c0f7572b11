"""What RelayQ costs in time, connections, units and bytes, each beside the least that it could: `make bench`."""

"""Modules between units and the network: found, described from their children, named, tested."""

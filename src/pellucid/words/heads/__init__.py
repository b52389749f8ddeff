"""Attention heads as rules over tokens: what a head looks at, said without the network's numbers."""

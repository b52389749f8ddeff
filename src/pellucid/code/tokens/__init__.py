"""Networks over tokens: attention as rules, machines that tokens move, decisions over what attention can know."""

"""The networks of `pellucid demo`: small ones made by this project, and texts to run a language model on."""

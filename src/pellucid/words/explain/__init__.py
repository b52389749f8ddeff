"""Descriptions by a language model, through any OpenAI-compatible endpoint: evidence, questions, replies, costs."""

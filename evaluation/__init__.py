"""Scores of agents: whole games on raw reward, and the pictures and films of them."""

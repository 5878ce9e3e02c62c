"""Recipes and shipped experts: data only."""

"""Losses as pure functions of tensors; :mod:`dyngs_plugins.objective` gives them names, weights and step windows."""

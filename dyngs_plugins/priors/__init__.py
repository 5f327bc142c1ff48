"""Priors: what is known about a clip beside its images (cameras, depth, masks, flow, tracks), and how it is read.

Plain torch and numpy; nothing here imports nerfstudio.
"""

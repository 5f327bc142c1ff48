"""Dynamic and deblurring Gaussian methods as nerfstudio plugins."""

__version__ = "0.1.0"

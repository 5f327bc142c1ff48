"""The project's own sample scene: analytic, ray-cast, with exact ground truth."""

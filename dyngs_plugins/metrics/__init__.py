"""Metrics: pure functions on tensors. An undefined value (nothing observed) is NaN, never a made-up number."""

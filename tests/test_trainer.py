"""What our trainer tells before it trains."""

from dyngs_plugins.trainer import size_advice


def test_full_size_without_a_gpu_points_to_the_small_one():
    assert "dyn-som-small takes minutes" in size_advice("dyn-som", "cpu")
    assert size_advice("dyn-som", "cuda") == ""
    assert size_advice("dyn-som-small", "cpu") == ""
    assert size_advice("a-method-of-one-size", "cpu") == ""

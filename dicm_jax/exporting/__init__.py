"""From a trained run to a servable: vectors computed ahead, programs that need none of our code."""

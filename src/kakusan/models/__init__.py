"""The generative models, each a `LatentChain`."""

"""Uses of a trained model: latents, reconstructions, interpolations and scores of given examples; one file per tool."""

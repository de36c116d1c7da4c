"""A fitted control variate for the diffusion bound."""

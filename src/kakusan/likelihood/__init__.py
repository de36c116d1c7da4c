"""Bits per dimension of a data set, by term, with standard errors that say where they come from."""

"""Bits per dimension of a data set, by term, with standard errors and their sources."""

"""A model in one HTML file: the network as a program, the solver as coefficients, and the page that runs both."""

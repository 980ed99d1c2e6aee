"""From a file to a canonical graph with its layers, cuts and logit."""

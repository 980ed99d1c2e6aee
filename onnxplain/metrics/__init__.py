"""Measures of maps: arrays in, a number per image out."""

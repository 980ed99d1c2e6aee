"""Compare input gradients of torchvision networks, exported and explained here, with PyTorch's in float64."""

"""Networks: from YAML blocks (convnet), from torchvision (zoo), what of them is frozen, and what they cost."""

"The published networks, and the one place where a tensor chooses between PyTorch and a compiled loop."

"""What the backend flowreg_cuda is made of: kernels for a GPU, and what calls them."""

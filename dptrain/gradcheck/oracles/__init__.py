"""What a gradient is compared with: numbers made of the loss alone."""

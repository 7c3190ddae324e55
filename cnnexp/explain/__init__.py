"""What a trained network looks at: Grad-CAM of its mistakes, and the filters of its first convolution."""

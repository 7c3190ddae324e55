"""What is in a data set: numbers, figures and a page. torch is imported only to draw augmented images."""

"""Data directories, audio in and out, and what results were made of."""

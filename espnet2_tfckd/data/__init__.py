"""Data directories, audio in and out: what every room that touches recordings shares."""

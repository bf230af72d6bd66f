"""One file an instrument: plain results in, a Finding out. Titles, pictures and alt texts are computed from the numbers."""

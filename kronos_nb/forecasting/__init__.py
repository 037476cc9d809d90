"A frame of bars becomes sample paths, and what is read from them."

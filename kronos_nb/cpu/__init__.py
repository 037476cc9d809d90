"Compiled loops: numpy arrays in, numpy arrays out; they know no model and no torch module."

"Windows become weights."

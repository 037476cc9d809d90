"From forecasts to a decision: scores of symbols, how good they are, and a portfolio after costs."

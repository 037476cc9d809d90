"Forecasts over HTTP: what waits together is computed together."

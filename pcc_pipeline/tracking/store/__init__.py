"""What lies in MLflow: versions, aliases, past runs, and the databases and folders behind them."""

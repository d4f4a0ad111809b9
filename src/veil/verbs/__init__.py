"""What is asked of a fitted model: inference, prediction, forecasting, conditioning, selection."""

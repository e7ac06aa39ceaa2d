"""What is measured of an answer or of many beside pass and fail: pure functions, numbers out."""

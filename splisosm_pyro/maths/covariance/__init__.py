"""The spatial covariance V in three forms (dense, low rank, sparse precision) and their factors."""

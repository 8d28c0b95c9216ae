"""The model hub: a directory of bundles, served over gRPC. It stays at the coordinator."""

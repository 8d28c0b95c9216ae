"""The Flower ClientApp: what runs at a site that holds photos."""

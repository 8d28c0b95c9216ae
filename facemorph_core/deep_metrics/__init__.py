"""Measures that need a network and torch: LPIPS. Its AlexNet judges and is in no loss."""

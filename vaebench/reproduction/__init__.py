"""What one researcher shows and another repeats: training again, measuring again, cards. See docs/reproduction.md."""

"""From measurements to what a report states."""

"""Cliffracer: one file, one service."""

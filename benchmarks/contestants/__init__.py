"""One small file per contestant, written the way its own documentation shows, logging off."""

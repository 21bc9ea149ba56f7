"""Answers that are kept for a while: what ``@app.cached`` declares, and what serves it."""

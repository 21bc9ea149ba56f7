"""Cached answers: what ``@app.cached`` declares, and its implementation."""

"""Cliffracer beside its peers, in one run: `make bench`, `make bench QUICK=1`, or one table: `make bench ONLY=rpc`.

Real servers, one process per contestant, load from processes of their own. Contestants take turns round by round, so
that what else happens on the machine happens to all of them; figures are medians over rounds, ratios are medians of
the ratios within a round, and a contestant of which any call failed gets no figure at all.
"""

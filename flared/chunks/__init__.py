"""Bodies <-> placed pieces: cut, digest, encode, place, send; gather, verify, decode, in order.

It never touches the metadata (it is handed what is recorded) and knows neither objects nor HTTP.
Every byte it hands out was verified. Open ``write.py`` and ``gatherer.py`` first: they conduct, the others decide.
"""

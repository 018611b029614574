"""Doctor: what is wrong with this host, as far as a node of Flare cares, and what to type.

``facts`` are gathered once by ``gather``, which only looks and never changes a thing; ``checks`` decides, in plain
functions. Open ``checks`` first. The cluster's doctor is ``flarectl doctor``.
"""

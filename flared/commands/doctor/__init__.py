"""Doctor: find what is wrong with this host for a node of Flare, and what to type.

``gather`` collects the ``facts`` once, and changes nothing; ``checks`` decides, in plain functions. Open ``checks``
first. The cluster's doctor is ``flarectl doctor``.
"""

"""Workers: more processes that serve clients of one api node.

The first process owns the metadata and runs all upkeep; it deals the connections of its port to itself and to its
workers in turn. ``docs/workers.md`` says what each of them owns, shares and sums. ``dealing`` hands over connections,
``flight`` reports what is under way, ``nodes`` which data nodes there are, ``owner`` starts and watches
the workers, ``worker`` is such a process.
"""

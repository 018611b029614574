"""One file for each command: parse, make one call, render. A command imports what it needs when it runs."""

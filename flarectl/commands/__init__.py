"""One file a command: parse, make one call, render. What a command needs is imported when it runs."""

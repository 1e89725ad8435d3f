"""Programs for the people who work on this: pages and tables made from the code, set-up scripts."""

"""The commands of ``fingerpost``. Each command imports what only the server needs when it runs, not before."""

"""The commands of ``fingerpost``, a group a module. Heavy parts are imported by the commands that need them."""

"""What a back end installs and imports: clients, wire types, errors."""

"""The YAML files of every command, packaged so that they are found from any folder."""

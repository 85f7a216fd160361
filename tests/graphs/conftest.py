"""Being here puts this folder on the path: `steps` and `twins` serve the tests in folders below as well."""

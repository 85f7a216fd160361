"""Being here puts this folder on the path: the helpers beside it serve the tests in folders below as well."""

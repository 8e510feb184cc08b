"""One step of training: the documents that it looks at, its batch, objectives and their losses."""

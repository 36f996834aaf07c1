"""The audit log: who decided or touched what, in chained lines, so that what is changed afterwards is found."""

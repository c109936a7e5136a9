;; Has a table larger than any guest gets. Must be refused when it is installed.
(table 10000000 funcref)
(run (call $fine))

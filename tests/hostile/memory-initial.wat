;; Starts with more memory than its limit. Must not start.
(memory (export "memory") 1000)
(run (call $fine))

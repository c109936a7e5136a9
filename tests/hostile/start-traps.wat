;; Traps while it is instantiated. Must end as a trap.
(func $trap unreachable)
(start $trap)
(run (call $fine))

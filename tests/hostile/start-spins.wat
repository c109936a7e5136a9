;; Computes for ever while it is instantiated. Must end at its deadline.
(func $spin (loop $on (br $on)))
(start $spin)
(run (call $fine))
